"""What the values of a config's common settings may be, so that a wrong one is refused before data are read."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmengine.config import Config

from reprefine.engine.errors import UserError

from .rules import (
    ABOVE_ZERO,
    BETAS,
    COUNT,
    DICT,
    DICTS,
    DIRECTION,
    FLAG,
    NAME_OF_STEP,
    NOTHING,
    POSITIVES,
    PRIORITY,
    RENAMES,
    SEED,
    SHARE,
    SIZE,
    SOME,
    STEPS,
    TEXT,
    TEXTS,
    number,
    or_else,
    type_name,
    whole,
    word,
)

OPTIONAL = {
    'work_dir': TEXT,
    'load_from': TEXT,
    'load_from_command': TEXT,
    'checkpoint_key': TEXT,
    'revise_keys': RENAMES,
    'default_scope': TEXT,
    'model': DICT,
    'data_preprocessor': DICT,
    '*_dataloader': DICT,
    'train_cfg': DICT,
    'val_cfg': DICT,
    'test_cfg': DICT,
    '*_evaluator': DICTS,
    'optim_wrapper': DICT,
    'param_scheduler': DICTS,
    'default_hooks': DICT,
    'default_hooks.*': DICT,
    'custom_hooks': DICTS,
    'visualizer': DICT,
    '*_dataloader.prefetch_factor': SOME,
    'optim_wrapper.clip_grad': DICT,
    'optim_wrapper.paramwise_cfg': DICT,
    'randomness.seed': SEED,
    'default_hooks.checkpoint.save_best': TEXTS,
    'default_hooks.checkpoint.rule': DIRECTION,
    'data_preprocessor.std': POSITIVES,
    'model.**.data_preprocessor.std': POSITIVES,
    'data_preprocessor.num_classes': SOME,
    'default_hooks.checkpoint.filename_tmpl': NAME_OF_STEP,
}
RULES = {
    'randomness': DICT,
    'custom_hooks.priority': PRIORITY,
    'max_corrupt_samples': COUNT,
    'min_load_ratio': SHARE,
    'resume': FLAG,
    'reset_schedule': FLAG,
    '*_dataloader.batch_size': SOME,
    '*_dataloader.num_workers': COUNT,
    '*_dataloader.drop_last': FLAG,
    '*_dataloader.persistent_workers': FLAG,
    '*_dataloader.pin_memory': FLAG,
    '*_dataloader.timeout': number(0),
    '*_dataloader.sampler.shuffle': FLAG,
    '*_dataloader.dataset': DICT,
    'optim_wrapper.optimizer': DICT,
    'optim_wrapper.optimizer.lr': number(0),
    'optim_wrapper.optimizer.weight_decay': number(0),
    'optim_wrapper.optimizer.momentum': SHARE,
    'optim_wrapper.optimizer.betas': BETAS,
    'optim_wrapper.accumulative_counts': SOME,
    'optim_wrapper.clip_grad.max_norm': ABOVE_ZERO,
    'train_cfg.max_epochs': SOME,
    'train_cfg.max_iters': SOME,
    'train_cfg.val_interval': SOME,
    'train_cfg.val_begin': COUNT,
    'train_cfg.by_epoch': FLAG,
    'param_scheduler.by_epoch': FLAG,
    'param_scheduler.begin': COUNT,
    'param_scheduler.milestones': STEPS,
    'param_scheduler.T_max': SOME,
    'param_scheduler.eta_min': number(0),
    'env_cfg': DICT,
    'env_cfg.cudnn_benchmark': FLAG,
    'randomness.deterministic': FLAG,
    'default_hooks.checkpoint.interval': whole(1, -1),
    'default_hooks.checkpoint.max_keep_ckpts': whole(1, -1),
    'default_hooks.checkpoint.by_epoch': FLAG,
    'default_hooks.logger.interval': SOME,
    'log_level': word('CRITICAL', 'ERROR', 'WARNING', 'INFO', 'DEBUG', 'NOTSET'),
    'model.**.head.num_classes': SOME,
    'model.**.*_head.num_classes': SIZE,
    'model.**.drop_rate': SHARE,
    'model.**.drop_path_rate': SHARE,
    'model.**.embed_dims': SIZE,
    'model.**.head.in_channels': SIZE,
}
# Samplers that never end, which a loop over epochs would follow.
ENDLESS = ('InfiniteSampler', 'MultiSourceSampler', 'GroupMultiSourceSampler')
EPOCHS = 'EpochBasedTrainLoop'


def check_values(cfg: Config) -> None:
    """Refuse values that no run could work with.

    Args:
        cfg: The config.

    Raises:
        UserError: With the config path of the setting, its value and what it must be.
    """
    rules = {pattern: or_else(rule, NOTHING) for pattern, rule in OPTIONAL.items()} | RULES
    for pattern, rule in rules.items():
        for path, value in find(cfg._cfg_dict, pattern.split('.'), ''):
            if not rule.holds(value):
                raise UserError(f'{path}: must be {rule.wanted}, not {value!r}')
    _check_ends(cfg)


def _check_ends(cfg: Config) -> None:
    """Refuse data that never end where a loop waits for their end."""
    train_cfg = cfg.get('train_cfg') or {}
    by_epoch = train_cfg.get('by_epoch', True) if 'type' not in train_cfg else type_name(train_cfg) == EPOCHS
    for name in ('train_dataloader',) * bool(by_epoch and train_cfg) + ('val_dataloader', 'test_dataloader'):
        sampler = (cfg.get(name) or {}).get('sampler') or {}
        if isinstance(sampler, Mapping) and type_name(sampler) in ENDLESS:
            raise UserError(
                f'{name}.sampler: {type_name(sampler)} never ends, so that an epoch over it would not either; take '
                'DefaultSampler, or for training a loop over iterations'
            )


def find(node: Any, keys: list[str], path: str) -> Iterator[tuple[str, Any]]:
    """Yield the path and the value of every entry below ``node`` that ``keys`` lead to.

    Args:
        node: A dict or a list; of a list, every item is looked at.
        keys: Names; ``*name`` stands for every key that ends like this, ``**`` for any number of keys.
        path: Where ``node`` stands.
    """
    if not keys:
        yield path, node
    elif isinstance(node, list | tuple):
        for index, item in enumerate(node):
            yield from find(item, keys, f'{path}.{index}')
    elif isinstance(node, Mapping):
        key, *rest = keys
        if key == '**':
            yield from find(node, rest, path)
            rest = keys
        for name in [name for name in dict.keys(node) if _matches(str(name), key)]:
            yield from find(node[name], rest, f'{path}.{name}' if path else name)


def _matches(name: str, key: str) -> bool:
    return key == '**' or (name.endswith(key[1:]) if key.startswith('*') else name == key)


def require_settings(cfg: Config, keys: Sequence[str], purpose: str) -> None:
    """Refuse a config that lacks what it is used for.

    Args:
        cfg: The config.
        keys: Names of the settings.
        purpose: What needs them.

    Raises:
        UserError: With the first that is missing or None.
    """
    for key in keys:
        if cfg.get(key) is None:
            raise UserError(f'{key}: {purpose} needs it, but the config has none')
