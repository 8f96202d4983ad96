"""Checks of the values of common settings, before data are read."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmengine.config import Config

from reprefine.engine.errors import UserError

from . import rules
from .rules import type_name

# By dotted pattern of the config path, see match_paths. These may also be None.
OPTIONAL = {
    'work_dir': rules.STRING,
    'load_from': rules.STRING,
    'load_from_command': rules.STRING,
    'checkpoint_key': rules.STRING,
    'revise_keys': rules.REVISE_KEYS,
    'default_scope': rules.STRING,
    'model': rules.DICT,
    'data_preprocessor': rules.DICT,
    '*_dataloader': rules.DICT,
    'train_cfg': rules.DICT,
    'val_cfg': rules.DICT,
    'test_cfg': rules.DICT,
    '*_evaluator': rules.DICTS,
    'optim_wrapper': rules.DICT,
    'param_scheduler': rules.DICTS,
    'default_hooks': rules.DICT,
    'default_hooks.*': rules.DICT,
    'custom_hooks': rules.DICTS,
    'visualizer': rules.DICT,
    '*_dataloader.prefetch_factor': rules.POSITIVE,
    'optim_wrapper.clip_grad': rules.DICT,
    'optim_wrapper.paramwise_cfg': rules.DICT,
    'randomness.seed': rules.SEED,
    'default_hooks.checkpoint.save_best': rules.STRINGS,
    'default_hooks.checkpoint.rule': rules.COMPARISON,
    'data_preprocessor.std': rules.ALL_ABOVE_ZERO,
    'model.**.data_preprocessor.std': rules.ALL_ABOVE_ZERO,
    'data_preprocessor.num_classes': rules.POSITIVE,
    'default_hooks.checkpoint.filename_tmpl': rules.FILENAME_TMPL,
}
# These may not be None.
REQUIRED = {
    'randomness': rules.DICT,
    'custom_hooks.priority': rules.PRIORITY,
    'max_corrupt_samples': rules.NON_NEGATIVE,
    'min_load_ratio': rules.RATIO,
    'resume': rules.BOOL,
    'reset_schedule': rules.BOOL,
    '*_dataloader.batch_size': rules.POSITIVE,
    '*_dataloader.num_workers': rules.NON_NEGATIVE,
    '*_dataloader.drop_last': rules.BOOL,
    '*_dataloader.persistent_workers': rules.BOOL,
    '*_dataloader.pin_memory': rules.BOOL,
    '*_dataloader.timeout': rules.number(0),
    '*_dataloader.sampler.shuffle': rules.BOOL,
    '*_dataloader.dataset': rules.DICT,
    'optim_wrapper.optimizer': rules.DICT,
    'optim_wrapper.optimizer.lr': rules.number(0),
    'optim_wrapper.optimizer.weight_decay': rules.number(0),
    'optim_wrapper.optimizer.momentum': rules.RATIO,
    'optim_wrapper.optimizer.betas': rules.BETAS,
    'optim_wrapper.accumulative_counts': rules.POSITIVE,
    'optim_wrapper.clip_grad.max_norm': rules.ABOVE_ZERO,
    'train_cfg.max_epochs': rules.POSITIVE,
    'train_cfg.max_iters': rules.POSITIVE,
    'train_cfg.val_interval': rules.POSITIVE,
    'train_cfg.val_begin': rules.NON_NEGATIVE,
    'train_cfg.by_epoch': rules.BOOL,
    'param_scheduler.by_epoch': rules.BOOL,
    'param_scheduler.begin': rules.NON_NEGATIVE,
    'param_scheduler.milestones': rules.MILESTONES,
    'param_scheduler.T_max': rules.POSITIVE,
    'param_scheduler.eta_min': rules.number(0),
    'env_cfg': rules.DICT,
    'env_cfg.cudnn_benchmark': rules.BOOL,
    'randomness.deterministic': rules.BOOL,
    'default_hooks.checkpoint.interval': rules.integer(1, -1),
    'default_hooks.checkpoint.max_keep_ckpts': rules.integer(1, -1),
    'default_hooks.checkpoint.by_epoch': rules.BOOL,
    'default_hooks.logger.interval': rules.POSITIVE,
    'log_level': rules.one_of('CRITICAL', 'ERROR', 'WARNING', 'INFO', 'DEBUG', 'NOTSET'),
    'model.**.head.num_classes': rules.POSITIVE,
    'model.**.*_head.num_classes': rules.SIZE,
    'model.**.drop_rate': rules.RATIO,
    'model.**.drop_path_rate': rules.RATIO,
    'model.**.embed_dims': rules.SIZE,
    'model.**.head.in_channels': rules.SIZE,
}
# A loop over epochs would never end with these samplers.
INFINITE_SAMPLERS = ('InfiniteSampler', 'MultiSourceSampler', 'GroupMultiSourceSampler')


def check_values(cfg: Config) -> None:
    """Refuse invalid values.

    Args:
        cfg: The config.

    Raises:
        UserError: With the config path of the setting, the valid values and its value.
    """
    optional = {pattern: rules.either(rule, rules.NONE) for pattern, rule in OPTIONAL.items()}
    for pattern, rule in (optional | REQUIRED).items():
        for path, value in match_paths(cfg._cfg_dict, pattern.split('.'), ''):
            if not rule.is_valid(value):
                raise UserError(f'{path}: must be {rule.wanted}, not {value!r}')
    _refuse_infinite_samplers(cfg)


def _refuse_infinite_samplers(cfg: Config) -> None:
    """Refuse a sampler that never ends in a loop over epochs."""
    train_cfg = cfg.get('train_cfg') or {}
    by_epoch = (
        train_cfg.get('by_epoch', True) if 'type' not in train_cfg else type_name(train_cfg) == 'EpochBasedTrainLoop'
    )
    for name in ('train_dataloader',) * bool(by_epoch and train_cfg) + ('val_dataloader', 'test_dataloader'):
        sampler = (cfg.get(name) or {}).get('sampler') or {}
        if isinstance(sampler, Mapping) and type_name(sampler) in INFINITE_SAMPLERS:
            raise UserError(
                f'{name}.sampler: {type_name(sampler)} never ends, and so would an epoch; use DefaultSampler, or '
                'IterBasedTrainLoop for training'
            )


def match_paths(node: Any, keys: list[str], path: str) -> Iterator[tuple[str, Any]]:
    """Yield the path and the value of every entry below ``node`` whose path matches ``keys``.

    Args:
        node: A dict or a list; lists match with all of their items.
        keys: Names; ``*name`` matches every key with this end, ``**`` any number of keys.
        path: Path of ``node``.
    """
    if not keys:
        yield path, node
    elif isinstance(node, list | tuple):
        for index, item in enumerate(node):
            yield from match_paths(item, keys, f'{path}.{index}')
    elif isinstance(node, dict):
        key, *rest = keys
        if key == '**':
            yield from match_paths(node, rest, path)
            rest = keys
        for name in [name for name in dict.keys(node) if _matches(str(name), key)]:
            yield from match_paths(node[name], rest, f'{path}.{name}' if path else name)


def _matches(name: str, key: str) -> bool:
    return key == '**' or (name.endswith(key[1:]) if key.startswith('*') else name == key)


def require_settings(cfg: Config, keys: Sequence[str], purpose: str) -> None:
    """Refuse a config without settings that a command needs.

    Args:
        cfg: The config.
        keys: Names of the settings.
        purpose: The command, for the message.

    Raises:
        UserError: With the first that is missing or None.
    """
    for key in keys:
        if cfg.get(key) is None:
            raise UserError(f'{key}: {purpose} needs it, but the config has none; add it')
