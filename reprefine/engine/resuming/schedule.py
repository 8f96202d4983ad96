"""Comparison of a checkpoint's optimiser settings and parameter schedulers with those of the config that resumes it.

mmengine continues with those of the checkpoint, whatever the config says.
"""

import warnings
from copy import deepcopy
from typing import Any, NamedTuple

from mmengine.hooks import EMAHook, Hook
from mmengine.optim import _ParamScheduler
from mmengine.runner import EpochBasedTrainLoop, Runner

from reprefine.engine.errors import UserError

from .settings import by_path, group_settings, scheduler_settings, schedulers_of, settings_of, wrappers_of

KEY = 'schedule'
MAX_LISTED = 3  # differences in one message


class Snapshot(NamedTuple):
    """State of the optimisers and schedulers that a config builds, before a checkpoint is loaded into them.

    Attributes:
        settings: See :func:`.settings.settings_of`.
        groups: The parameter groups of each optimiser, without their parameters.
        schedulers: The state dicts of each optimiser's schedulers.
    """

    settings: dict[str, Any]
    groups: dict[str, list[dict[str, Any]]]
    schedulers: dict[str, list[dict[str, Any]]]


class ScheduleHook(Hook):
    """Refuses to resume with other optimiser settings or another schedule than the checkpoint's.

    With the config key ``reset_schedule`` the run follows the config: the optimiser keeps its moments and takes the
    settings of the config, and the schedulers take the state that they would have reached from the start of training.
    """

    def __init__(self) -> None:
        self._configured: Snapshot | None = None
        self._is_reset = False
        self._saved_epoch_length: int | None = None
        self._settings: dict[str, Any] | None = None

    def before_train(self, runner: Runner) -> None:
        """Keep the settings of the config for checkpoints."""
        self._settings = self._settings or settings_of(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Add the settings to a checkpoint, and drop from its schedulers what weights-only loading refuses."""
        if 'optimizer' in checkpoint and self._settings:
            checkpoint[KEY] = self._settings
        schedulers = checkpoint.get('param_schedulers')
        if isinstance(schedulers, dict):
            checkpoint['param_schedulers'] = {name: without_functions(states) for name, states in schedulers.items()}
        elif schedulers is not None:
            checkpoint['param_schedulers'] = without_functions(schedulers)

    def before_resume(self, runner: Runner) -> None:
        """Build the optimisers and schedulers of the config, and keep their state."""
        if runner.optim_wrapper is None:
            return
        _ = runner.train_loop  # its length is an argument of the schedulers
        runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
        if runner.param_schedulers is not None:
            runner.param_schedulers = runner.build_param_scheduler(runner.param_schedulers)
        groups = {
            path: [
                {key: deepcopy(value) for key, value in group.items() if key != 'params'}
                for group in wrapper.param_groups
            ]
            for path, wrapper in wrappers_of(runner).items()
        }
        states = {path: [deepcopy(one.state_dict()) for one in some] for path, some in schedulers_of(runner).items()}
        self._settings = settings_of(runner)
        self._configured = Snapshot(self._settings, groups, states)

    def check(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Compare the settings of a checkpoint with those of the config.

        Args:
            runner: The runner, which resumes.
            checkpoint: The checkpoint, of which only the weights are loaded.

        Raises:
            UserError: If they differ, unless ``reset_schedule`` is set and the optimisers are of the same type.
        """
        if self._configured is None:
            return
        if 'ema_state_dict' in checkpoint and not any(isinstance(hook, EMAHook) for hook in runner.hooks):
            raise UserError(
                'custom_hooks: the checkpoint to resume from holds an average of the weights, but the config has no '
                'EMAHook: add it, or start another run from the average with load_from'
            )
        self._saved_epoch_length = (checkpoint.get('resume') or {}).get('batches')
        settings = self._configured.settings
        saved = checkpoint[KEY] if KEY in checkpoint else settings_of_state(checkpoint, settings)
        found = differences(saved, settings, KEY in checkpoint)
        if self._configured.schedulers.get('param_scheduler', True) and 'param_schedulers' not in checkpoint:
            found['param_scheduler'] = ('not saved', 'given')
        self._handle(runner, found)

    def _handle(self, runner: Runner, found: dict[str, tuple[Any, Any]]) -> None:
        """Refuse differences or warn of them."""
        lengths = {path: found.pop(path) for path in list(found) if path.startswith('train_cfg.')}
        counts = {path: found.pop(path) for path in list(found) if path.endswith('.accumulative_counts')}
        listed = '; '.join(_describe(path, *values) for path, values in list(found.items())[:MAX_LISTED])
        listed += f'; and {len(found) - MAX_LISTED} more' if len(found) > MAX_LISTED else ''
        if any(path.endswith(('optimizer.type', '.param_groups)')) for path in found):
            raise UserError(
                f'resume: {listed}: the state of one optimiser does not fit another; restore the settings of the '
                'checkpoint, or start another run with load_from'
            )
        self._is_reset = bool(found) and bool(runner.cfg.get('reset_schedule'))
        if found and not self._is_reset:
            raise UserError(
                f'resume: {listed}; restore the settings of the checkpoint, or follow the config with '
                '--reset-schedule (reset_schedule=True in a config)'
            )
        if self._is_reset:
            runner.logger.warning(f'Resumed with another schedule: {listed}')
        for path, values in counts.items():
            runner.logger.warning(f'Resumed, but not exactly: {_describe(path, *values)}')
        for path, values in lengths.items():
            if not self._is_reset and _schedulers_end_early(runner):
                runner.logger.warning(f'{_describe(path, *values)}, but the schedulers end before: rates stay constant')

    def after_resume(self, runner: Runner) -> None:
        """Apply the settings of the config, if the schedule is reset."""
        configured, self._configured = self._configured, None
        if configured is None or not self._is_reset:
            return
        for path, wrapper in wrappers_of(runner).items():
            for group, settings in zip(wrapper.param_groups, configured.groups[path], strict=True):
                parameters = group['params']
                group.clear()
                group.update(deepcopy(settings), params=parameters)
        for path, schedulers in schedulers_of(runner).items():
            for scheduler, state in zip(schedulers, configured.schedulers[path], strict=True):
                scheduler.load_state_dict(deepcopy(state))
            fast_forward(schedulers, runner.epoch, self._iterations(runner), len(runner.train_dataloader))

    def _iterations(self, runner: Runner) -> int:
        """Return the finished iterations; in a loop over epochs, scaled to the current length of an epoch."""
        if self._saved_epoch_length and isinstance(runner.train_loop, EpochBasedTrainLoop):
            return round(runner.iter * len(runner.train_dataloader) / self._saved_epoch_length)
        return runner.iter


def without_functions(states: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return scheduler states without functions, such as the annealing of OneCycleLR, which the config determines."""
    return [{key: value for key, value in state.items() if not callable(value)} for state in states]


def settings_of_state(checkpoint: dict[str, Any], configured: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a checkpoint without the entry ``schedule``, read from its optimisers and schedulers.

    Args:
        checkpoint: The checkpoint.
        configured: Settings of the config; they name the settings of a scheduler.
    """
    settings: dict[str, Any] = {}
    optimizer = checkpoint['optimizer']
    states = {'optim_wrapper': optimizer} if 'param_groups' in optimizer else by_path('optim_wrapper', optimizer)
    for path, state in states.items():
        settings |= group_settings(path, state['param_groups'])
        names = {key for key in configured if key.startswith(f'{path}.optimizer.')} - {f'{path}.optimizer.type'}
        if names - settings.keys() and settings.keys() - configured.keys():
            settings[f'{path}.optimizer.type'] = 'another'
    for path, states in by_path('param_scheduler', checkpoint.get('param_schedulers') or []).items():
        names = [
            [key.rpartition('.')[2] for key in configured if key.startswith(f'{path}.{i}.')] for i in range(len(states))
        ]
        settings |= scheduler_settings(path, states, names)
    return settings


def differences(saved: dict[str, Any], configured: dict[str, Any], complete: bool) -> dict[str, tuple[Any, Any]]:
    """Return path, saved and configured value of each setting that differs.

    Args:
        saved: Settings of the checkpoint.
        configured: Settings of the config.
        complete: Whether ``saved`` holds all settings, so that a scheduler's setting on one side alone is a difference.
    """
    common = [path for path in configured if path in saved]
    found = {path: (saved[path], configured[path]) for path in common if saved[path] != configured[path]}
    groups = {path: values for path, values in found.items() if path.endswith('.param_groups)')}
    if groups:
        return groups  # the settings of groups cannot be compared then
    if complete:
        for path in configured.keys() ^ saved.keys():
            if path.startswith('param_scheduler.'):
                found[path] = (saved.get(path, 'not given'), configured.get(path, 'not given'))
    return found


def fast_forward(schedulers: list[_ParamScheduler], epochs: int, iterations: int, epoch_length: int) -> None:
    """Step new schedulers as often as the finished training would have.

    Args:
        schedulers: The schedulers of one optimiser.
        epochs: Finished epochs.
        iterations: Finished iterations.
        epoch_length: Iterations of an epoch.
    """
    done = 0
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # "lr_scheduler.step() before optimizer.step()": the optimiser did step
        for epoch in range(epochs + 1):
            until = iterations if epoch == epochs else min(iterations, (epoch + 1) * epoch_length)
            for _ in range(done, until):
                _step(schedulers, by_epoch=False)
            done = until
            if epoch < epochs:
                _step(schedulers, by_epoch=True)


def _step(schedulers: list[_ParamScheduler], by_epoch: bool) -> None:
    for scheduler in schedulers:
        if scheduler.by_epoch == by_epoch:
            scheduler.step()


def _schedulers_end_early(runner: Runner) -> bool:
    schedulers = [one for some in schedulers_of(runner).values() for one in some]
    return bool(schedulers) and all(
        one.end < (runner.max_epochs if one.by_epoch else runner.max_iters) for one in schedulers
    )


def _describe(path: str, saved: Any, configured: Any) -> str:
    """Return one difference as text; for values per parameter group, that of the first group that differs."""
    if isinstance(saved, list) and isinstance(configured, list) and len(saved) == len(configured):
        index = next(index for index, pair in enumerate(zip(saved, configured, strict=True)) if pair[0] != pair[1])
        path, saved, configured = f'{path}[{index}]', saved[index], configured[index]
    return f'{path} is {saved} in the checkpoint and {configured} in the config'
