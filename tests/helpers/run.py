"""Runs the tools inside the test process, without start-up time, or as processes of their own."""

import argparse
import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from reprefine.engine.cli.test import add_test_arguments, test
from reprefine.engine.cli.train import add_train_arguments, train
from reprefine.engine.errors import run_cli

ROOT = Path(__file__).parents[2]
DIGITS = str(ROOT / 'configs/baselines/classification/vit-tiny_digits.py')
DENOISED = str(ROOT / 'configs/denoiserep/classification/vit-tiny_denoiserep_digits.py')
# Options with which the digits config trains in a second.
SMALL = (
    '--cfg-options',
    'train_dataloader.dataset.indices=64',
    'val_dataloader.dataset.indices=32',
    'test_dataloader.dataset.indices=32',
    'model.backbone.arch.num_layers=1',
    'train_cfg.max_epochs=2',
)
_runs = itertools.count()


def _own_name() -> tuple[str, ...]:
    # mmengine keeps loggers by name and second, and visualizers by name: runs of one process would share them.
    name = f'run{next(_runs)}'
    return '--cfg-options', f'experiment_name={name}', f'visualizer.name={name}'


def run_train(*argv: str) -> int:
    """Run tools/train.py in this process and return its exit code."""
    parser = argparse.ArgumentParser('train.py')
    add_train_arguments(parser)
    return run_cli(train, parser, [*argv, *_own_name()])


def run_test(*argv: str) -> int:
    """Run tools/test.py in this process and return its exit code."""
    parser = argparse.ArgumentParser('test.py')
    add_test_arguments(parser)
    return run_cli(test, parser, [*argv, *_own_name()])


def train_digits(work_dir: Path, *argv: str) -> int:
    """Train the small digits run."""
    return run_train(DIGITS, '--work-dir', str(work_dir), *SMALL, *argv)


def start(*argv: str, **environment: str) -> subprocess.Popen:
    """Start a Python script of the repository as a process, with additions to the environment."""
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return subprocess.Popen([sys.executable, *argv], cwd=ROOT, env={**os.environ, **environment}, **pipes)


def read_until(process: subprocess.Popen, text: str) -> None:
    """Read the output of ``process`` up to the line that holds ``text``."""
    assert any(text in line for line in process.stdout), process.stderr.read()


def assert_equal(a: Any, b: Any, place: str = '') -> None:
    """Compare nested containers of tensors bit by bit; ``place`` is for the message."""
    assert type(a) is type(b), place
    if isinstance(a, dict):
        assert a.keys() == b.keys(), place
        for key in a:
            assert_equal(a[key], b[key], f'{place}.{key}')
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), place
        for index, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_equal(x, y, f'{place}.{index}')
    elif torch.is_tensor(a):
        assert torch.equal(a, b), place
    else:
        assert a == b or (a != a and b != b), place  # noqa: PLR0124, NaN of any type
