"""The top-level keys of a config. Does not import torch, so that a misspelt key is refused at once."""

import difflib

from mmengine.config import Config

from reprefine.engine.errors import UserError

# The arguments of mmengine's Runner, and the keys that it or reprefine's Runner reads from the config itself.
RUNNER_KEYS = frozenset((
    'model', 'work_dir', 'train_dataloader', 'val_dataloader', 'test_dataloader', 'train_cfg', 'val_cfg', 'test_cfg',
    'auto_scale_lr', 'optim_wrapper', 'param_scheduler', 'val_evaluator', 'test_evaluator', 'default_hooks',
    'custom_hooks', 'data_preprocessor', 'load_from', 'load_from_command', 'resume', 'launcher', 'env_cfg',
    'log_processor', 'log_level', 'visualizer', 'default_scope', 'randomness', 'experiment_name',
    'model_wrapper_cfg', 'find_unused_parameters', 'sync_bn', 'compile', 'runner_type', 'custom_imports',
    'finite_check', 'min_load_ratio', 'checkpoint_key', 'revise_keys', 'max_corrupt_samples', 'reset_schedule',
))  # fmt: skip
# Built by the tools for testing.
TOP_LEVEL_KEYS = RUNNER_KEYS | {'tta_model', 'tta_pipeline'}
# Variables of configs such as ``val_evaluator_lvis`` begin with the key that they are used for.
VARIABLES = tuple(f'{key}_' for key in RUNNER_KEYS)
CUTOFF = 0.85  # similarity, see difflib.get_close_matches


def check_top_level_keys(cfg: Config) -> None:
    """Refuse a key that differs from a key of the runner by a letter or two; others are variables of the config.

    Args:
        cfg: The parsed config.

    Raises:
        UserError: With the first such key and the similar one.
    """
    for key in cfg:
        if key in TOP_LEVEL_KEYS or key.startswith(VARIABLES):
            continue
        swapped = [name for name in RUNNER_KEYS if sorted(name) == sorted(key)]
        near = swapped or difflib.get_close_matches(key, RUNNER_KEYS, n=1, cutoff=CUTOFF)
        if near:
            raise UserError(f"{key}: is no key of the runner; did you mean '{near[0]}'?")
