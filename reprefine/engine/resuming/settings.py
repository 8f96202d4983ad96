"""Settings of optimisers and parameter schedulers as plain data, by their paths in a config."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import IterBasedTrainLoop, Runner

from reprefine.engine.config_check.signatures import accepted_arguments

# Parameter group keys that choose the implementation of an update, not its result.
IMPLEMENTATION_KEYS = frozenset({'params', 'foreach', 'fused', 'capturable', 'differentiable'})
# Arguments of schedulers and of their builder that do not change a schedule.
IGNORED_ARGUMENTS = frozenset({'type', 'optimizer', 'last_step', 'verbose', 'convert_to_iter_based', 'epoch_length'})


def wrappers_of(runner: Runner) -> dict[str, OptimWrapper]:
    """Return the optimiser wrappers of a runner by their config paths."""
    wrapper = runner.optim_wrapper
    if isinstance(wrapper, OptimWrapperDict):
        return {f'optim_wrapper.{name}': one for name, one in wrapper.items()}
    return {'optim_wrapper': wrapper}


def schedulers_of(runner: Runner) -> dict[str, list[Any]]:
    """Return the lists of parameter schedulers of a runner by their config paths."""
    return by_path('param_scheduler', runner.param_schedulers or [])


def by_path(path: str, value: Any) -> dict[str, Any]:
    """Return a value by its path, or the values of a dict of several optimisers by theirs."""
    return {f'{path}.{name}': one for name, one in value.items()} if isinstance(value, Mapping) else {path: value}


def settings_of(runner: Runner) -> dict[str, Any]:
    """Return the settings of optimisers and schedulers and the length of the training, before any training or loading.

    Args:
        runner: A runner whose optimiser and schedulers are built.
    """
    length = 'max_iters' if isinstance(runner.train_loop, IterBasedTrainLoop) else 'max_epochs'
    settings = {f'train_cfg.{length}': getattr(runner, length)}
    for path, wrapper in wrappers_of(runner).items():
        settings[f'{path}.optimizer.type'] = type(wrapper.optimizer).__name__
        settings[f'{path}.accumulative_counts'] = wrapper._accumulative_counts
        settings |= group_settings(path, wrapper.optimizer.param_groups)  # the wrapper adds a base rate for the log
    configs = by_path('param_scheduler', runner.cfg.get('param_scheduler') or [])
    for path, schedulers in schedulers_of(runner).items():
        names = [accepted_arguments(type(one)) or () for one in schedulers]
        states = [one.state_dict() for one in schedulers]
        settings |= scheduler_settings(path, states, names)
        settings |= {f'{path}.{index}.type': type(one).__name__ for index, one in enumerate(schedulers)}
        settings = _configured(configs.get(path, configs.get('param_scheduler')), path) | settings
    return settings


def group_settings(path: str, groups: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the settings of parameter groups: one value each, or a list with one value per group if they differ.

    For a setting with a scheduler this is the initial value.

    Args:
        path: Config path of the optimiser wrapper.
        groups: Parameter groups of the optimiser, or of its state.
    """
    settings: dict[str, Any] = {f'len({path}.param_groups)': len(groups)}
    keys = set.intersection(*(set(group) for group in groups)) - IMPLEMENTATION_KEYS if groups else set()
    if 'momentum' in keys and 'betas' in keys:
        keys.remove('betas')  # mmengine's momentum schedulers add a momentum to Adam's groups
    for key in sorted(key for key in keys if not key.startswith('initial_')):
        values = [plain(group.get(f'initial_{key}', group[key])) for group in groups]
        settings[f'{path}.optimizer.{key}'] = values[0] if all(value == values[0] for value in values) else values
    return settings


def scheduler_settings(path: str, states: Sequence[Mapping[str, Any]], names: Sequence[Iterable[str]]) -> dict:
    """Return the settings of parameter schedulers.

    Args:
        path: Their config path.
        states: Their states.
        names: For each, the argument names of its constructor.
    """
    settings = {f'len({path})': len(states)}
    for index, (state, arguments) in enumerate(zip(states, names, strict=False)):
        for name in sorted(set(arguments) & set(state) - IGNORED_ARGUMENTS):
            settings[f'{path}.{index}.{name}'] = plain(state[name])
    return settings


def plain(value: Any) -> Any:
    """Return a value as numbers, strings and containers of them, which weights-only loading accepts."""
    if isinstance(value, Mapping):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if hasattr(value, 'tolist'):
        return value.tolist()
    return value if isinstance(value, bool | int | float | str | None) else type(value).__name__


def _configured(configs: Any, path: str) -> dict[str, Any]:
    """Return the settings in the configs of schedulers, as not all of them are attributes."""
    items = configs if isinstance(configs, Sequence) else [configs]
    return {
        f'{path}.{index}.{key}': plain(value)
        for index, config in enumerate(items)
        if isinstance(config, Mapping)
        for key, value in config.items()
        if key not in IGNORED_ARGUMENTS and not key.startswith('_')
    }
