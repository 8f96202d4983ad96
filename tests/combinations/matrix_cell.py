"""Runs a cell of the table: trains what its snippet holds, stage by stage, tests it and folds it."""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from mmengine.config import Config
from torch import nn

from reprefine.deploy.checkpoint import write_checkpoint
from reprefine.deploy.compare import MODEL
from reprefine.deploy.from_config import reparameterize_from_config
from reprefine.engine.cli.launch import config_from_args, default_work_dir
from reprefine.engine.cli.test import add_test_arguments
from tests.configs.brief import ROOT
from tests.configs.small_networks import small_networks
from tests.configs.walk import assert_tests, brief_arguments
from tests.helpers.run import run_train

from .matrix import Cell, Method

ToyFolder = Callable[[list[str]], Path]
# The backbone that another stage starts from keeps its width.
WIDTHS = ('model.backbone.stem_channels=', 'model.backbone.base_channels=', 'model.neck.in_channels=')
TOLERANCE = 1e-4


class Stages:
    """The configs of a cell in a folder that is the working directory, each trained by :meth:`train`.

    Args:
        method: The method.
        task: The task.
        folder: Where configs and work directories go.
        toy_folder: Gives the toy data of a data root.
    """

    def __init__(self, method: Method, task: str, folder: Path, toy_folder: ToyFolder) -> None:
        self.method, self.cell, self.task = method, method.cells[task], task
        self.folder, self.toy_folder = folder, toy_folder
        self.baseline = baseline_of(self.cell)

    def write(self, name: str, **values: str) -> Path:
        """Write a config of the snippet with the names of the checkpoints that brief runs leave, and return it."""
        path = self.folder / name
        known = facts_of(self.cell) | dict(checkpoint=self._last) | values
        path.write_text(self.method.configs(self.task, **known)[name])
        return path

    @property
    def _last(self) -> str:
        found = [file.name for file in (self.folder / 'work_dirs').rglob('*.pth')]
        return found[0] if found else 'missing.pth'

    def arguments(self, path: Path, is_first: bool) -> list[str]:
        """Return the arguments of a brief run, which starts from nothing unless another stage comes first."""
        has_start = self.method.link and not is_first
        dropped = (*WIDTHS, self.method.link) if has_start else WIDTHS
        return [argument for argument in brief_arguments(path, self.toy_folder) if not argument.startswith(dropped)]

    def train(self, path: Path, is_first: bool = True) -> int:
        """Train a config for two iterations and return the exit code."""
        return run_train(str(path), *self.arguments(path, is_first))

    def test(self, path: Path, checkpoint: Path | None = None) -> None:
        """Test a config, with its own last checkpoint or another, and require finite metrics."""
        assert_tests(path, checkpoint or self.checkpoint(path), self.folder, self.toy_folder)

    def checkpoint(self, path: Path) -> Path:
        """Return the checkpoint that the training of a config has left."""
        work_dir = self.folder / default_work_dir(str(path))
        (found,) = [file for file in work_dir.glob('*.pth') if file.stem in ('epoch_1', 'iter_2')]
        return found

    def config(self, path: Path, checkpoint: Path, is_first: bool = True) -> Config:
        """Return a config as a brief test of a checkpoint has it."""
        parser = argparse.ArgumentParser()
        add_test_arguments(parser)
        return config_from_args(parser.parse_args([str(path), str(checkpoint), *self.arguments(path, is_first)]))


def baseline_of(cell: Cell) -> Path:
    """Return the config of a cell's baseline."""
    return ROOT / 'configs/baselines' / f'{cell.baseline}.py'


def facts_of(cell: Cell) -> dict[str, str]:
    """Return what the placeholders of all tasks stand for in a full training.

    The checkpoints that the baseline's schedule and the training of DVT's denoiser end with, and a tenth of the
    baseline's learning rate.
    """
    cfg = Config.fromfile(baseline_of(cell))
    epochs = cfg.train_cfg.get('max_epochs')
    checkpoint = f'epoch_{epochs}.pth' if epochs else f'iter_{cfg.train_cfg.max_iters}.pth'
    return dict(checkpoint=checkpoint, denoiser='iter_100000.pth', lr=f'{cfg.optim_wrapper.optimizer.lr / 10:.3g}')


@contextmanager
def stages(method: Method, task: str, folder: Path, toy_folder: ToyFolder) -> Iterator[Stages]:
    """Make a folder the working directory, and the networks small, while the stages of a cell run."""
    with small_networks(), pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield Stages(method, task, folder, toy_folder)


def assert_deploys(run: Stages, path: Path) -> nn.Module:
    """Fold a trained model into the baseline's, which must load it, compute the same and test, and return it deployed.

    Layers and outputs are compared on random input and on images of the test set.
    """
    cfg, target = run.config(path, run.checkpoint(path)), run.folder / 'plain.pth'
    result, _ = reparameterize_from_config(
        cfg, run.checkpoint(path), to_baseline=True, must_have_data=True, tolerance=TOLERANCE
    )
    assert result.layers
    assert f'{MODEL} for test image 1' in result.comparison.differences
    write_checkpoint(result, target)
    run.test(run.baseline, target)
    return result.model
