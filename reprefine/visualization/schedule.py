"""Learning rate and momentum schedules of a config."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from mmengine.config import Config
from mmengine.hooks import ParamSchedulerHook
from mmengine.logging import MMLogger
from mmengine.optim import BaseOptimWrapper, OptimWrapperDict, build_optim_wrapper
from mmengine.runner import BaseLoop, Runner
from rich.progress import track
from torch import nn

from reprefine.engine.cost.models import quiet_log
from reprefine.engine.errors import UserError

LABELS = {'lr': 'learning rate', 'momentum': 'momentum'}
AMP_OPTIONS = ('loss_scale', 'dtype', 'use_fsdp')
MAX_LEGEND = 16


@dataclass(frozen=True)
class Schedule:
    """Values of a hyper-parameter over training.

    Attributes:
        parameter: ``lr`` or ``momentum``.
        curves: Name and values of each distinct parameter group, shape (iterations,).
        epoch_length: Iterations per epoch, None if the training loop does not count epochs.
    """

    parameter: str
    curves: dict[str, np.ndarray]
    epoch_length: int | None


class _SchedulerLoop(BaseLoop):
    """Training loop without training: steps the schedulers after every iteration and epoch."""

    def __init__(self, runner: Runner, train_cfg: dict, epoch_length: int):
        self._runner = runner
        self.dataloader = range(epoch_length)
        self.epoch_length = epoch_length if 'max_epochs' in train_cfg else None
        self.max_epochs = train_cfg.get('max_epochs', 1)
        self.max_iters = self.max_epochs * epoch_length if self.epoch_length else train_cfg['max_iters']

    def run(self) -> Iterator[int]:
        """Yield the index of every iteration before the schedulers step."""
        hook = ParamSchedulerHook()
        for iteration in range(self.max_iters):
            yield iteration
            hook.after_train_iter(self.runner, iteration)
            if self.epoch_length and (iteration + 1) % self.epoch_length == 0:
                hook.after_train_epoch(self.runner)


class _ScheduleRunner(Runner):
    """Runner with the attributes that ``build_param_scheduler`` needs, without data and log files."""

    def __init__(self, cfg: Config, optim_wrapper: BaseOptimWrapper, epoch_length: int):
        self.logger = MMLogger.get_current_instance()
        self.optim_wrapper = optim_wrapper
        self._train_loop = _SchedulerLoop(self, cfg.train_cfg, epoch_length)
        self.param_schedulers = self.build_param_scheduler(cfg.get('param_scheduler') or [])


def compute_schedule(cfg: Config, model: nn.Module, epoch_length: int, parameter: str = 'lr') -> Schedule:
    """Compute the schedule of a config without training.

    Args:
        cfg: Complete config.
        model: Model whose parameters the config's optimizer receives.
        epoch_length: Iterations per epoch.
        parameter: ``lr`` or ``momentum``.

    Raises:
        UserError: The config has no ``train_cfg`` or ``optim_wrapper``.
    """
    if not cfg.get('train_cfg') or not cfg.get('optim_wrapper'):
        raise UserError(f'{cfg.filename} has no train_cfg or no optim_wrapper: give a config for training')
    optim_wrapper = _build_optim_wrapper(cfg, model)
    names = _keep_distinct_groups(optim_wrapper, parameter)
    runner = _ScheduleRunner(cfg, optim_wrapper, epoch_length)
    for wrapper in _wrappers(optim_wrapper).values():
        # Without gradients no parameter changes; schedulers warn if they step before the optimizer.
        wrapper.step()
    loop = runner.train_loop
    values = np.empty((len(names), loop.max_iters))
    for iteration in track(loop.run(), 'stepping schedulers', total=loop.max_iters, transient=True):
        values[:, iteration] = _current_values(optim_wrapper, parameter)
    return Schedule(parameter, dict(zip(names, values, strict=True)), loop.epoch_length)


def _build_optim_wrapper(cfg: Config, model: nn.Module) -> BaseOptimWrapper:
    optim_cfg = dict(cfg.optim_wrapper)
    if optim_cfg.get('type') == 'AmpOptimWrapper':
        # AmpOptimWrapper requires a GPU, and the schedule does not depend on the precision.
        optim_cfg = {key: value for key, value in optim_cfg.items() if key not in AMP_OPTIONS}
        optim_cfg['type'] = 'OptimWrapper'
    with quiet_log():
        return build_optim_wrapper(model, optim_cfg)


def _wrappers(optim_wrapper: BaseOptimWrapper) -> dict[str, BaseOptimWrapper]:
    return dict(optim_wrapper.items()) if isinstance(optim_wrapper, OptimWrapperDict) else {'': optim_wrapper}


def _values(wrapper: BaseOptimWrapper, parameter: str) -> list[float]:
    return wrapper.get_lr()['lr'] if parameter == 'lr' else wrapper.get_momentum()['momentum']


def _current_values(optim_wrapper: BaseOptimWrapper, parameter: str) -> list[float]:
    return [value for wrapper in _wrappers(optim_wrapper).values() for value in _values(wrapper, parameter)]


def _keep_distinct_groups(optim_wrapper: BaseOptimWrapper, parameter: str) -> list[str]:
    """Remove parameter groups with equal initial values except the first; return the names of the others."""
    names = []
    for optimizer_name, wrapper in _wrappers(optim_wrapper).items():
        groups = wrapper.optimizer.param_groups
        by_value: dict[float, list[dict]] = {}
        for group, value in zip(groups, _values(wrapper, parameter), strict=True):
            by_value.setdefault(value, []).append(group)
        groups[:] = [same[0] for same in by_value.values()]
        for value, same in by_value.items():
            tensors = sum(len(group['params']) for group in same)
            names.append(f'{optimizer_name} {LABELS[parameter]} {value:.3g} ({tensors} tensors)'.strip())
    return names


def plot_schedule(schedule: Schedule, title: str, path: Path) -> None:
    """Plot a schedule over iterations, with a second axis of epochs for epoch-based training.

    Args:
        schedule: The schedule.
        title: Title of the plot.
        path: Image file; missing parent folders are created.
    """
    figure = Figure(figsize=(8, 4.5), layout='constrained')
    axes = figure.add_subplot()
    for name, values in schedule.curves.items():
        axes.plot(np.arange(len(values)), values, label=name)
    axes.set(xlabel='iteration', ylabel=LABELS[schedule.parameter], title=title)
    axes.grid(alpha=0.3)
    if 1 < len(schedule.curves) <= MAX_LEGEND:
        axes.legend(fontsize='x-small', title='initial value')
    if schedule.epoch_length:
        length = schedule.epoch_length
        top = axes.secondary_xaxis('top', functions=(lambda i: i / length, lambda epoch: epoch * length))
        top.set_xlabel('epoch')
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def epoch_length(dataset_size: int, batch_size: int, num_processes: int = 1, drop_last: bool = False) -> int:
    """Return the iterations per epoch.

    Args:
        dataset_size: Number of images in the training set.
        batch_size: Number of images per process and iteration.
        num_processes: Number of processes.
        drop_last: Whether an incomplete last batch is dropped.
    """
    per_process = math.ceil(dataset_size / num_processes)
    return per_process // batch_size if drop_last else math.ceil(per_process / batch_size)
