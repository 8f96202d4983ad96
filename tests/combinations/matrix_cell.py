"""Runs of a cell of the table: training stage by stage, test, reparameterisation."""

import argparse
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from torch import nn

from reprefine.deploy.checkpoint import write_checkpoint
from reprefine.deploy.compare import MODEL
from reprefine.deploy.from_config import reparameterize_from_config
from reprefine.engine.build import build_model
from reprefine.engine.cli.launch import config_from_args, default_work_dir
from reprefine.engine.cli.test import add_test_arguments
from tests.configs.brief import ROOT
from tests.configs.small_networks import small_networks
from tests.configs.walk import assert_tests, brief_arguments
from tests.helpers.run import run_train

from .matrix import Cell, Method

ToyFolder = Callable[[list[str]], Path]
# Options that would change the width of the backbone, which the next stage starts from.
WIDTHS = ('model.backbone.stem_channels=', 'model.backbone.base_channels=', 'model.neck.in_channels=')
TOLERANCE = 1e-4


class Stages:
    """The configs of a cell in a folder that is the working directory, each trained by :meth:`train`.

    Args:
        method: The method.
        task: The task.
        folder: Folder of configs and work directories.
        toy_folder: Function that returns the toy data of data roots.
    """

    def __init__(self, method: Method, task: str, folder: Path, toy_folder: ToyFolder) -> None:
        self.method, self.cell, self.task = method, method.cells[task], task
        self.folder, self.toy_folder = folder, toy_folder
        self.baseline = baseline_of(self.cell)

    def write(self, name: str, **values: str) -> Path:
        """Write a config of the snippet with the names of the checkpoints of brief runs, and return its path."""
        path = self.folder / name
        known = placeholders_of(self.cell) | dict(checkpoint=self._last) | values
        path.write_text(self.method.configs(self.task, **known)[name])
        return path

    @property
    def _last(self) -> str:
        found = [file.name for file in (self.folder / 'work_dirs').rglob('*.pth')]
        return found[0] if found else 'missing.pth'

    def arguments(self, path: Path, is_first: bool) -> list[str]:
        """Return the arguments of a brief run, which starts from a checkpoint only if another stage comes first."""
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
        """Return the checkpoint that the training of a config has written."""
        work_dir = self.folder / default_work_dir(str(path))
        (found,) = [file for file in work_dir.glob('*.pth') if file.stem in ('epoch_1', 'iter_2')]
        return found

    def config(self, path: Path, checkpoint: Path, is_first: bool = True) -> Config:
        """Return the config of a brief test of a checkpoint."""
        parser = argparse.ArgumentParser()
        add_test_arguments(parser)
        return config_from_args(parser.parse_args([str(path), str(checkpoint), *self.arguments(path, is_first)]))


def baseline_of(cell: Cell) -> Path:
    """Return the config of a cell's baseline."""
    return ROOT / 'configs/baselines' / f'{cell.baseline}.py'


def placeholders_of(cell: Cell) -> dict[str, str]:
    """Return the values of the placeholders of all tasks in a full training.

    They are the last checkpoints of the baseline's schedule and of the training of DVT's denoiser, and a tenth of the
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
    """Reparameterise a trained model into the baseline, which must load it, compute the same and run the test.

    Layers and outputs are compared on random input and on images of the test set.
    """
    cfg, target = run.config(path, run.checkpoint(path)), run.folder / 'baseline.pth'
    result, _ = reparameterize_from_config(
        cfg, run.checkpoint(path), to_baseline=True, must_have_data=True, tolerance=TOLERANCE
    )
    assert result.layers
    assert f'{MODEL} for test image 1' in result.comparison.differences
    write_checkpoint(result, target)
    run.test(run.baseline, target)
    return result.model


def assert_refused(run: Stages, path: Path, capsys: pytest.CaptureFixture) -> None:
    """Train a config and require the one-line error message of the cell."""
    capsys.readouterr()
    assert run.train(path, is_first=False) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith('train.py: error: ')]
    assert re.search(run.cell.refusal, line), line


def assert_starts_from(run: Stages, path: Path, stage: Path, prefix: str) -> None:
    """Require that a config's backbone is initialised with every weight of the stage before."""
    model = build_model(run.config(path, run.checkpoint(stage), is_first=False))
    model.init_weights()
    written = torch.load(run.checkpoint(stage), weights_only=True)['state_dict']
    backbone = model.backbone.state_dict()
    assert backbone
    for name, value in backbone.items():
        assert torch.equal(written[prefix + name], value), name
