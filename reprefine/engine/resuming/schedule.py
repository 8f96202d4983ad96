"""Resuming with other optimiser settings or another schedule than the checkpoint was trained with.

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
LISTED = 3  # differences in one message


class Snapshot(NamedTuple):
    """What a config asks for, before a checkpoint is loaded into it.

    Attributes:
        settings: See :func:`.settings.settings_of`.
        groups: Of each optimiser, its parameter groups without their parameters.
        schedulers: Of each optimiser, the states of its schedulers.
    """

    settings: dict[str, Any]
    groups: dict[str, list[dict[str, Any]]]
    schedulers: dict[str, list[dict[str, Any]]]


class ScheduleHook(Hook):
    """Refuses to resume with other optimiser settings or another schedule than the checkpoint's.

    With the config key ``reset_schedule`` the config is followed instead: the moments of the optimiser stay, its
    settings become those of the config, and the schedulers stand where they would, had they been there from the start.
    """

    def __init__(self) -> None:
        self._asked: Snapshot | None = None
        self._is_reset = False
        self._epoch_length: int | None = None  # of the checkpoint
        self._settings: dict[str, Any] | None = None

    def before_train(self, runner: Runner) -> None:
        """Remember what the config asks for."""
        self._settings = self._settings or settings_of(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Write the settings down, for a run that is resumed; leave out what weights-only loading refuses."""
        if 'optimizer' in checkpoint and self._settings:
            checkpoint[KEY] = self._settings
        schedulers = checkpoint.get('param_schedulers')
        if isinstance(schedulers, dict):
            checkpoint['param_schedulers'] = {name: without_functions(states) for name, states in schedulers.items()}
        elif schedulers is not None:
            checkpoint['param_schedulers'] = without_functions(schedulers)

    def before_resume(self, runner: Runner) -> None:
        """Build what the config asks for, and remember it."""
        if runner.optim_wrapper is None:
            return
        _ = runner.train_loop  # whose length the schedulers take
        runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
        if runner.param_schedulers is not None:
            runner.param_schedulers = runner.build_param_scheduler(runner.param_schedulers)
        groups = {
            path: [
                {key: deepcopy(value) for key, value in group.items() if key != 'params'} for group in one.param_groups
            ]
            for path, one in wrappers_of(runner).items()
        }
        states = {path: [deepcopy(one.state_dict()) for one in some] for path, some in schedulers_of(runner).items()}
        self._settings = settings_of(runner)
        self._asked = Snapshot(self._settings, groups, states)

    def check(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Compare the settings of a checkpoint, whose weights fit the model, with those of the config.

        Args:
            runner: The runner, which resumes.
            checkpoint: The checkpoint, of which only the weights are loaded.

        Raises:
            UserError: If they differ and the config is not to be followed, or cannot be.
        """
        if self._asked is None:
            return
        if 'ema_state_dict' in checkpoint and not any(isinstance(hook, EMAHook) for hook in runner.hooks):
            raise UserError(
                'custom_hooks: the checkpoint to resume from holds an average of the weights, but the config has no '
                'EMAHook: add it, or start another run from the average with load_from'
            )
        self._epoch_length = (checkpoint.get('resume') or {}).get('batches')
        former = checkpoint[KEY] if KEY in checkpoint else restored(checkpoint, self._asked.settings)
        found = differences(former, self._asked.settings, KEY in checkpoint)
        if self._asked.schedulers.get('param_scheduler', True) and 'param_schedulers' not in checkpoint:
            found['param_scheduler'] = ('not saved', 'given')
        self._judge(runner, found)

    def _judge(self, runner: Runner, found: dict[str, tuple[Any, Any]]) -> None:
        lengths = {path: found.pop(path) for path in list(found) if path.startswith('train_cfg.')}
        counts = {path: found.pop(path) for path in list(found) if path.endswith('.accumulative_counts')}
        told = '; '.join(_told(path, *values) for path, values in list(found.items())[:LISTED])
        told += f'; and {len(found) - LISTED} more' if len(found) > LISTED else ''
        if any(path.endswith(('optimizer.type', '.param_groups)')) for path in found):
            raise UserError(
                f'resume: {told}: the state of one optimiser does not fit another; take the former settings, or start '
                'another run with load_from'
            )
        self._is_reset = bool(found) and bool(runner.cfg.get('reset_schedule'))
        if found and not self._is_reset:
            raise UserError(
                f'resume: {told}; take the former settings, or follow the new ones from here on with --reset-schedule '
                '(reset_schedule=True in a config)'
            )
        if self._is_reset:
            runner.logger.warning(f'Resumed with another schedule: {told}')
        for path, values in counts.items():
            runner.logger.warning(
                f'Resumed, but not exactly as if the run had not been stopped: {_told(path, *values)}'
            )
        for path, values in lengths.items():
            if not self._is_reset and _ends_early(runner):
                runner.logger.warning(f'{_told(path, *values)}, but the schedulers end before: nothing changes then')

    def after_resume(self, runner: Runner) -> None:
        """Follow the config, if it is to be followed."""
        asked, self._asked = self._asked, None
        if asked is None or not self._is_reset:
            return
        for path, wrapper in wrappers_of(runner).items():
            for group, settings in zip(wrapper.param_groups, asked.groups[path], strict=True):
                parameters = group['params']
                group.clear()
                group.update(deepcopy(settings), params=parameters)
        for path, schedulers in schedulers_of(runner).items():
            for scheduler, state in zip(schedulers, asked.schedulers[path], strict=True):
                scheduler.load_state_dict(deepcopy(state))
            fast_forward(schedulers, runner.epoch, self._iterations(runner), len(runner.train_dataloader))

    def _iterations(self, runner: Runner) -> int:
        """Return the iterations that are done, in a loop over epochs as if all had been as long as they are now."""
        if self._epoch_length and isinstance(runner.train_loop, EpochBasedTrainLoop):
            return round(runner.iter * len(runner.train_dataloader) / self._epoch_length)
        return runner.iter


def without_functions(states: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return states of schedulers without functions, such as OneCycleLR's form of annealing: the config gives them."""
    return [{key: value for key, value in state.items() if not callable(value)} for state in states]


def restored(checkpoint: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that mmengine would take from a checkpoint that has them nowhere else.

    Args:
        checkpoint: The checkpoint.
        asked: Settings of the config; they tell the names of a scheduler's settings.
    """
    settings: dict[str, Any] = {}
    optimizer = checkpoint['optimizer']
    states = {'optim_wrapper': optimizer} if 'param_groups' in optimizer else by_path('optim_wrapper', optimizer)
    for path, state in states.items():
        settings |= group_settings(path, state['param_groups'])
        names = {key for key in asked if key.startswith(f'{path}.optimizer.')} - {f'{path}.optimizer.type'}
        if names - settings.keys() and settings.keys() - asked.keys():
            settings[f'{path}.optimizer.type'] = 'another'
    for path, states in by_path('param_scheduler', checkpoint.get('param_schedulers') or []).items():
        names = [
            [key.rpartition('.')[2] for key in asked if key.startswith(f'{path}.{i}.')] for i in range(len(states))
        ]
        settings |= scheduler_settings(path, states, names)
    return settings


def differences(former: dict[str, Any], asked: dict[str, Any], complete: bool) -> dict[str, tuple[Any, Any]]:
    """Return path, former and new value of each setting that differs.

    Args:
        former: Settings of the checkpoint.
        asked: Settings of the config.
        complete: Whether ``former`` holds all of them, so that a scheduler's setting on one side alone is a difference.
    """
    found = {path: (former[path], asked[path]) for path in asked if path in former and former[path] != asked[path]}
    groups = {path: values for path, values in found.items() if path.endswith('.param_groups)')}
    if groups:
        return groups  # whose settings cannot be compared
    if complete:
        for path in asked.keys() ^ former.keys():
            if path.startswith('param_scheduler.'):
                found[path] = (former.get(path, 'not given'), asked.get(path, 'not given'))
    return found


def fast_forward(schedulers: list[_ParamScheduler], epochs: int, iterations: int, epoch_length: int) -> None:
    """Step new schedulers as the training that is done would have done it.

    Args:
        schedulers: The schedulers of one optimiser.
        epochs: Epochs that are done.
        iterations: Iterations that are done.
        epoch_length: Iterations of an epoch.
    """
    done = 0
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # the optimiser has made its steps before
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


def _ends_early(runner: Runner) -> bool:
    schedulers = [one for some in schedulers_of(runner).values() for one in some]
    return bool(schedulers) and all(
        one.end < (runner.max_epochs if one.by_epoch else runner.max_iters) for one in schedulers
    )


def _told(path: str, former: Any, asked: Any) -> str:
    """Return one difference in words; of values that differ between parameter groups, the first that is another."""
    if isinstance(former, list) and isinstance(asked, list) and len(former) == len(asked):
        index = next(index for index, pair in enumerate(zip(former, asked, strict=True)) if pair[0] != pair[1])
        path, former, asked = f'{path}[{index}]', former[index], asked[index]
    return f'{path} is {former} in the checkpoint and {asked} in the config'
