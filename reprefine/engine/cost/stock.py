"""Comparing the training iterations of a config under this project's Runner and under mmengine's."""

import copy
import inspect
import tempfile
from collections.abc import Callable
from itertools import count, islice
from pathlib import Path
from typing import Any

import mmengine
import numpy as np
import torch
from mmengine.config import Config
from mmengine.runner import EpochBasedTrainLoop, set_random_seed
from mmengine.runner import Runner as StockRunner

from reprefine.engine.cli.launch import build_runner, set_loader_defaults
from reprefine.engine.errors import UserError
from reprefine.engine.optim import use_amp

from .inputs import InputBatch
from .models import without_pretrained
from .phases import Phase, PhasedHook, hook_phases, paired_spreads, weighted_sum
from .rows import TRAINED, CostRow, Settings
from .timing import Workload, interleave

# A round is as long as the usual interval of the logger, so that what is deferred until then is included.
ITERATIONS = 10
CLOCKS = ('train/time', 'train/data_time')
_names = count()


class RunnerComparison:
    """Compare the training iterations of one config under two runners.

    Each runner has its own model, optimiser and hooks, with the same weights; both are given the same batches and
    random states, and must log bitwise equal losses.

    Args:
        config: Complete config.
        settings: Settings of the comparison; the Runner chooses the device.

    Raises:
        UserError: Settings other than those of training, or missing data.
    """

    def __init__(self, config: Config, settings: Settings):
        if settings.deploy or settings.input_shape or 'train' not in settings.parts:
            raise UserError('--baseline stock measures training alone: drop --deploy, --input-shape and --only')
        self.settings = settings
        self.train_cfg = config.train_cfg
        self.names = (str(config.filename), f'the same under the Runner of mmengine {mmengine.__version__}')
        # Kept as long as this object, as hooks write logs there.
        self._folder = tempfile.TemporaryDirectory()
        try:
            self.runners = tuple(
                _PreparedRunner(self._own_config(config), build) for build in (build_runner, build_stock)
            )
        except (OSError, AssertionError) as error:  # raised by the OpenMMLab libraries for missing files
            raise UserError(f'no training batch: {error}') from error
        ours, stock = (prepared.runner for prepared in self.runners)
        ours.model.load_state_dict(stock.model.state_dict())
        self.device = next(stock.model.parameters()).device
        self.input_batch = None
        self.train_batch = self._draw_batches()

    def run(self) -> list[CostRow]:
        """Measure.

        Returns:
            The times of an iteration, in each phase and over the whole schedule, and of reading a batch; every value
            is the mean of ten in a row.

        Raises:
            UserError: If the losses differ.
        """
        name, phases, rows = 'training iteration', self._phases(), []
        seconds = []
        for phase in phases:
            for runner in self.runners:
                runner.fix_phase(phase.name)
            seconds.append(self._seconds(tuple(self._rounds(runner) for runner in self.runners)))
            if phase.name:
                rows.append(self._row(phase.title(name), *seconds[-1]))
        require_equal(*(runner.logged() for runner in self.runners))
        total = (weighted_sum(phases, values) for values in zip(*seconds, strict=True))
        rows.append(self._row(f'{name}, whole schedule' if rows else name, *total))
        readings = self._seconds(tuple(self._readings(runner) for runner in self.runners))
        return [*rows, self._row('reading of a batch', *readings)]

    def _phases(self) -> list[Phase]:
        runner = self.runners[0].runner
        return next((hook_phases(hook, self.train_cfg) for hook in _phased_hooks(runner)), [Phase()])

    def _seconds(self, prepare: tuple[Callable[[], Workload], ...]) -> list[list[float]]:
        wait = torch.cuda.synchronize if self.device.type == 'cuda' else (lambda: None)
        seconds = interleave(prepare, self.settings.repeats, self.settings.warmup, wait)
        return [[value / ITERATIONS for value in side] for side in seconds]

    def _row(self, name: str, ours: list[float], stock: list[float]) -> CostRow:
        return CostRow(name, 's', TRAINED, self.train_batch.source, *paired_spreads(ours, stock))

    def notes(self) -> list[str]:
        """Return explanations of the rows."""
        return [
            'weights are random; both runners get the same weights, batches and RNG states; their losses were '
            'bitwise equal',
            f'times: {ITERATIONS} iterations of each runner alternately (A B, B A, ...); median and interquartile '
            'range over the rounds; the ratio is taken within each round',
            'training iteration: the hooks of the config, preprocessing, loss, backward pass, optimiser step and '
            'logging; no validation, no checkpoint',
            'reading of a batch: in the main process, the start of the iterator included',
        ]

    def _own_config(self, config: Config) -> Config:
        """Return a copy that trains from scratch, without validation, and shares nothing with other runs."""
        cfg = copy.deepcopy(config)
        name = f'cost{next(_names)}'
        cfg.merge_from_dict(dict(experiment_name=name, work_dir=str(Path(self._folder.name, name)), log_level='ERROR'))
        cfg.model = without_pretrained(cfg.model)
        cfg.load_from, cfg.resume, cfg.launcher = None, False, 'none'
        cfg.default_hooks = {**(cfg.get('default_hooks') or {}), 'checkpoint': None}
        for phase in ('val', 'test'):
            for part in ('cfg', 'dataloader', 'evaluator'):
                cfg[f'{phase}_{part}'] = None
        cfg.train_dataloader.update(num_workers=0, persistent_workers=False)
        cfg.train_dataloader.pop('prefetch_factor', None)
        if self.settings.batch_size is not None:
            cfg.train_dataloader.batch_size = self.settings.batch_size
        set_loader_defaults(cfg, no_pin_memory=False)
        if self.settings.amp:
            use_amp(cfg.optim_wrapper, on_gpu=torch.cuda.is_available())
        if cfg.get('visualizer'):
            cfg.visualizer.name = name
        cfg.randomness = {'seed': 0, **(cfg.get('randomness') or {})}
        return cfg

    def _draw_batches(self) -> InputBatch:
        """Read the batches of a round from the data loader."""
        loader = self.runners[0].runner.train_dataloader
        self._batches = list(islice(loader, ITERATIONS))
        if not self._batches:
            raise UserError(f'train_dataloader yields no batch: its dataset has {len(loader.dataset)} images')
        return InputBatch(self._batches, loader.batch_size, f'first {len(self._batches)} batches of train_dataloader')

    def _rounds(self, runner: '_PreparedRunner') -> Callable[[], Workload]:
        """Return a function that prepares a round: copies of the batches, and the RNG seed of the round."""
        seeds = count()

        def prepare() -> Workload:
            batches = [copy.deepcopy(self._batches[index % len(self._batches)]) for index in range(ITERATIONS)]
            set_random_seed(next(seeds))
            return lambda: runner.iterate(batches)

        return prepare

    def _readings(self, runner: '_PreparedRunner') -> Callable[[], Workload]:
        """Return a function that prepares the reading of ten batches."""
        loader = runner.runner.train_dataloader
        return lambda: lambda: [None for _ in islice(loader, ITERATIONS)]


def build_stock(cfg: Config) -> StockRunner:
    """Build mmengine's own Runner, also if :mod:`reprefine.everywhere` has replaced it."""
    return inspect.unwrap(StockRunner.from_cfg.__func__)(StockRunner, cfg)


class _PreparedRunner:
    """A runner whose training loop is about to start."""

    def __init__(self, cfg: Config, build: Callable[[Config], StockRunner]):
        self.runner = build(cfg)
        loop = self.runner.train_loop
        loop.run = self._start  # Runner.train does everything before the loop, and nothing after it
        self.runner.train()
        del loop.run

    def _start(self) -> None:
        self.runner.call_hook('before_train')
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()

    def fix_phase(self, phase: str) -> None:
        """Keep a phase; without a hook that has phases, do nothing."""
        for hook in _phased_hooks(self.runner):
            hook.fix_phase(phase)
            hook.before_train_epoch(self.runner)

    def iterate(self, batches: list[Any]) -> None:
        """Train on batches."""
        loop = self.runner.train_loop
        by_epoch = isinstance(loop, EpochBasedTrainLoop)
        for batch in batches:
            loop.run_iter(*([loop.iter % len(loop.dataloader)] if by_epoch else []), batch)

    def logged(self) -> dict[str, np.ndarray]:
        """Return all logged values except times."""
        scalars = self.runner.message_hub.log_scalars
        return {key: history.data[0] for key, history in scalars.items() if key not in CLOCKS}


def _phased_hooks(runner: StockRunner) -> list[PhasedHook]:
    return [hook for hook in runner.hooks if isinstance(hook, PhasedHook)]


def require_equal(ours: dict[str, np.ndarray], stock: dict[str, np.ndarray]) -> None:
    """Refuse a comparison of trainings that are not equal.

    Args:
        ours: Logged values of each iteration under our Runner, by name.
        stock: The same under mmengine's.

    Raises:
        UserError: If a value differs, or is logged by one runner only.
    """
    if ours.keys() != stock.keys():
        raise UserError(f'the two runners log different values: {", ".join(sorted(ours.keys() ^ stock.keys()))}')
    for key, values in ours.items():
        if not np.array_equal(values, stock[key], equal_nan=True):
            same = (values == stock[key]) | (np.isnan(values) & np.isnan(stock[key]))
            raise UserError(
                f'{key} differs from stock mmengine at iteration {int(np.argmin(same)) + 1}, so the times cannot be '
                'compared: make the training of this config deterministic'
            )
