"""Whole training iterations of a config under this project's Runner and under mmengine's own, in turn."""

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

from .figures import TRAINED, Figure, Settings
from .inputs import Batch
from .models import without_pretrained
from .phases import Phase, PhasedHook, phases_of, spreads, weighted_sum
from .timing import Work, interleave

# A round is as long as the usual interval of the logger, so that what is put off until then is paid for.
ITERATIONS = 10
CLOCKS = ('train/time', 'train/data_time')
_names = count()


class EngineComparison:
    """Compare the training iterations of one config under two runners.

    Each runner has its own model, optimiser and hooks, with the same weights; both are given the same batches and
    random states, and must see the same losses to the bit.

    Args:
        config: Complete config.
        settings: How to compare; the Runner chooses the device.

    Raises:
        UserError: Settings that ask for anything but training, or data that are missing.
    """

    def __init__(self, config: Config, settings: Settings):
        if settings.deploy or settings.input_shape or 'train' not in settings.parts:
            raise UserError('--baseline stock measures training alone: drop --deploy, --input-shape and --only')
        self.settings = settings
        self.train_cfg = config.train_cfg
        self.names = (str(config.filename), f'the same under the Runner of mmengine {mmengine.__version__}')
        # Held as long as this object: hooks write logs there.
        self._folder = tempfile.TemporaryDirectory()
        try:
            self.sides = tuple(_Side(self._own_config(config), build) for build in (build_runner, build_stock))
        except (OSError, AssertionError) as error:  # what the host libraries raise for missing files
            raise UserError(f'no training batch: {error}') from error
        ours, stock = (side.runner for side in self.sides)
        ours.model.load_state_dict(stock.model.state_dict())
        self.device = next(stock.model.parameters()).device
        self.input_batch = None
        self.train_batch = self._draw_batches()

    def run(self) -> list[Figure]:
        """Measure.

        Returns:
            The times of an iteration, in every phase and over the whole schedule, and of reading a batch, every value
            the mean of ten in a row.

        Raises:
            UserError: If the losses differ.
        """
        name, phases, figures = 'training iteration', self._phases(), []
        seconds = []
        for phase in phases:
            for side in self.sides:
                side.hold(phase.name)
            seconds.append(self._seconds(tuple(self._rounds(side) for side in self.sides)))
            if phase.name:
                figures.append(self._figure(phase.title(name), *seconds[-1]))
        require_equal(*(side.logged() for side in self.sides))
        whole = (weighted_sum(phases, values) for values in zip(*seconds, strict=True))
        figures.append(self._figure(f'{name}, whole schedule' if figures else name, *whole))
        readings = self._seconds(tuple(self._readings(side) for side in self.sides))
        return [*figures, self._figure('reading of a batch', *readings)]

    def _phases(self) -> list[Phase]:
        runner = self.sides[0].runner
        return next((phases_of(hook, self.train_cfg) for hook in _phased(runner)), [Phase()])

    def _seconds(self, prepare: tuple[Callable[[], Work], ...]) -> list[list[float]]:
        wait = torch.cuda.synchronize if self.device.type == 'cuda' else (lambda: None)
        seconds = interleave(prepare, self.settings.repeats, self.settings.warmup, wait)
        return [[value / ITERATIONS for value in side] for side in seconds]

    def _figure(self, name: str, ours: list[float], stock: list[float]) -> Figure:
        return Figure(name, 's', TRAINED, self.train_batch.source, *spreads(ours, stock))

    def notes(self) -> list[str]:
        """Say how the figure is to be understood."""
        return [
            'weights are random; both runners get the same weights, batches and random states; their losses were equal '
            'to the bit',
            f'times: {ITERATIONS} iterations of each runner in turn (A B, B A, ...); median and interquartile range '
            'over the rounds; the ratio is taken within each round',
            'training iteration: the hooks of the config, preprocessing, loss, backward pass, optimiser step and '
            'logging; no validation, no checkpoint',
            'reading of a batch: in the main process, one after the other, the start of the iterator included',
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

    def _draw_batches(self) -> Batch:
        """Take the batches of a round from the data loader."""
        loader = self.sides[0].runner.train_dataloader
        self._batches = list(islice(loader, ITERATIONS))
        if not self._batches:
            raise UserError(f'train_dataloader yields no batch: its data set has {len(loader.dataset)} images')
        return Batch(self._batches, loader.batch_size, f'first {len(self._batches)} batches of train_dataloader')

    def _rounds(self, side: '_Side') -> Callable[[], Work]:
        """Return what prepares the rounds of one side: copies of the batches, and the random state of the round."""
        seeds = count()

        def prepare() -> Work:
            batches = [copy.deepcopy(self._batches[index % len(self._batches)]) for index in range(ITERATIONS)]
            set_random_seed(next(seeds))
            return lambda: side.iterate(batches)

        return prepare

    def _readings(self, side: '_Side') -> Callable[[], Work]:
        """Return what prepares the readings of ten batches."""
        loader = side.runner.train_dataloader
        return lambda: lambda: [None for _ in islice(loader, ITERATIONS)]


def build_stock(cfg: Config) -> StockRunner:
    """Build mmengine's own Runner, also where :mod:`reprefine.everywhere` has put ours in its place."""
    return inspect.unwrap(StockRunner.from_cfg.__func__)(StockRunner, cfg)


class _Side:
    """One runner, brought to where its training loop starts."""

    def __init__(self, cfg: Config, build: Callable[[Config], StockRunner]):
        self.runner = build(cfg)
        loop = self.runner.train_loop
        loop.run = self._start  # everything that Runner.train does before the loop happens, and nothing after it
        self.runner.train()
        del loop.run

    def _start(self) -> None:
        self.runner.call_hook('before_train')
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()

    def hold(self, phase: str) -> None:
        """Stay in a phase; nothing happens without a hook that trains in phases."""
        for hook in _phased(self.runner):
            hook.hold(phase)
            hook.before_train_epoch(self.runner)

    def iterate(self, batches: list[Any]) -> None:
        """Train on batches."""
        loop = self.runner.train_loop
        by_epoch = isinstance(loop, EpochBasedTrainLoop)
        for batch in batches:
            loop.run_iter(*([loop.iter % len(loop.dataloader)] if by_epoch else []), batch)

    def logged(self) -> dict[str, np.ndarray]:
        """Return all values logged so far but times."""
        scalars = self.runner.message_hub.log_scalars
        return {key: history.data[0] for key, history in scalars.items() if key not in CLOCKS}


def _phased(runner: StockRunner) -> list[PhasedHook]:
    return [hook for hook in runner.hooks if isinstance(hook, PhasedHook)]


def require_equal(ours: dict[str, np.ndarray], stock: dict[str, np.ndarray]) -> None:
    """Refuse a comparison of trainings that are not the same.

    Args:
        ours: Logged values of each iteration, by name.
        stock: The same of the other side.

    Raises:
        UserError: If a value differs, or is logged by one side alone.
    """
    if ours.keys() != stock.keys():
        raise UserError(f'the two runners log different values: {", ".join(sorted(ours.keys() ^ stock.keys()))}')
    for key, values in ours.items():
        if not np.array_equal(values, stock[key], equal_nan=True):
            same = (values == stock[key]) | (np.isnan(values) & np.isnan(stock[key]))
            raise UserError(
                f'{key} differs from stock mmengine at iteration {int(np.argmin(same)) + 1}, so that the times do not '
                'compare: is the training of this config deterministic?'
            )
