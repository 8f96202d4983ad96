"""Trains and tests a config of the tree briefly, on the toy data of its benchmark.

A method may check more of a run by ``check_run(run)`` in ``tests/methods/<method>/walk.py``.
"""

import json
import math
import re
from collections.abc import Callable
from contextlib import nullcontext
from functools import cache, lru_cache
from pathlib import Path
from typing import NamedTuple

from mmengine.config import Config

from reprefine.engine.cli.launch import load_config
from tests.configs.brief import ROOT, brief_options, data_roots
from tests.configs.small_networks import small_networks
from tests.helpers.methods import declared
from tests.helpers.run import run_test, run_train

ToyFolder = Callable[[list[str]], Path]
CONFIGS = sorted(path for path in (ROOT / 'configs').rglob('*.py') if '_base_' not in path.parts)


class Run(NamedTuple):
    """A run that is trained and tested.

    Attributes:
        path: Path of the config.
        cfg: The config.
        work_dir: Its work directory.
        checkpoint: The checkpoint that was tested.
        toy_folder: Gives the toy data of a data root.
    """

    path: Path
    cfg: Config
    work_dir: Path
    checkpoint: Path
    toy_folder: ToyFolder


def configs_below(*folders: str) -> list[Path]:
    """Return the configs in the given folders of ``configs``."""
    return [path for path in CONFIGS if any(path.is_relative_to(ROOT / 'configs' / folder) for folder in folders)]


def train_and_test(path: Path, work_dir: Path, toy_folder: ToyFolder) -> None:
    """Train for two iterations, test on two batches and require that every metric is a finite number."""
    # Layers of blocks that the config names must be there.
    with nullcontext() if re.search(r"'\S*layer\d\.\d", str(loaded(path).model)) else small_networks():
        _train_and_test(path, work_dir, toy_folder)


def _train_and_test(path: Path, work_dir: Path, toy_folder: ToyFolder) -> None:
    cfg = loaded(path)
    if not cfg.get('train_dataloader'):  # nothing is trained
        assert_tests(path, None, work_dir, toy_folder)
        return
    assert run_train(str(path), '--work-dir', str(work_dir), *brief_arguments(path, toy_folder)) == 0
    if not cfg.get('test_dataloader'):
        return
    (checkpoint,) = [file for file in work_dir.glob('*.pth') if file.stem in ('epoch_1', 'iter_2')]
    assert_tests(path, checkpoint, work_dir, toy_folder)
    for method in declared('walk').values():
        method.check_run(Run(path, cfg, work_dir, checkpoint, toy_folder))


@lru_cache(4)
def loaded(path: Path) -> Config:
    """Return a config, which is not to be changed."""
    return load_config(str(path))


@cache
def brief_arguments(path: Path, toy_folder: ToyFolder) -> tuple[str, ...]:
    """Return the arguments of a brief run of a config, for training as for testing."""
    cfg = loaded(path)
    roots = data_roots(cfg)
    where = ['--data-root', str(toy_folder(roots))] if roots else []
    return (*where, '--cfg-options', *brief_options(cfg))


def assert_tests(path: Path, checkpoint: Path | None, work_dir: Path, toy_folder: ToyFolder) -> None:
    """Test a checkpoint, which must fill the whole model, or a config without one, and require finite metrics."""
    metrics = work_dir / 'metrics.json'
    brief = brief_arguments(path, toy_folder)
    trained = [str(checkpoint)] if checkpoint else []
    assert run_test(str(path), *trained, '--work-dir', str(work_dir), '--out', str(metrics), *brief) == 0
    values = json.loads(metrics.read_text())
    assert values
    assert all(math.isfinite(value) for value in values.values()), values
