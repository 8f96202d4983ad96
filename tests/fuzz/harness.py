"""Runs one bad input through a tool and judges how it ends."""

import hashlib
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import pytest
import torch

from tests.helpers.run import DIGITS, run_test, run_train

SECONDS = 120  # a case that takes longer hangs


class Case(NamedTuple):
    """One bad input.

    Attributes:
        name: What is bad.
        ending: Pattern of the error line, or None if the run must end well.
        options: Values for ``--cfg-options``.
        make: Makes the bad file in the folder of the case.
    """

    name: str
    ending: str | None
    options: tuple[str, ...] = ()
    make: Callable[[Path], None] | None = None


def parametrize(cases: list[Case]) -> Callable:
    """Make a test of each case, with a limit of time."""

    def decorate(test: Callable) -> Callable:
        return pytest.mark.timeout(SECONDS)(pytest.mark.parametrize('case', cases, ids=lambda case: case.name)(test))

    return decorate


def digests(folder: Path) -> dict[Path, str]:
    """Return the checksum of every checkpoint below a folder."""
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob('*.pth') if path.is_file()}


def judge(case: Case, run: Callable[[], int], folder: Path, capsys: pytest.CaptureFixture) -> None:
    """Run and check that the case ends as its table says, and that no checkpoint is lost.

    Args:
        case: The case.
        run: Runs the tool; returns its exit code.
        folder: Where all its files are.
        capsys: pytest's fixture.
    """
    before = digests(folder)
    capsys.readouterr()
    # Loggers of earlier runs of this process write to streams that pytest has closed.
    with mock.patch.object(logging, 'raiseExceptions', False):
        code = _code(run)
    lines = capsys.readouterr().err.strip().splitlines()
    errors = [line for line in lines if re.search(r'(^|\s)(train|test)\.py: error: ', line)]
    after = digests(folder)
    assert {path: after.get(path) for path in before} == before, 'a checkpoint was lost or changed'
    assert not any(line.startswith('Traceback') for line in lines), lines
    if case.ending is None:
        assert code == 0, lines
        assert errors == []
    else:
        assert code in (1, 2), 'the bad input was taken'
        assert len(errors) == 1, lines
        assert errors[0] == lines[-1]
        assert re.search(case.ending, errors[0]), errors[0]
        assert len(errors[0]) < 1500


def _code(run: Callable[[], int]) -> int | str | None:
    try:
        return run()
    except SystemExit as stop:  # of argparse
        return stop.code


def judge_training(case: Case, folder: Path, capsys: pytest.CaptureFixture, *argv: str, config: str = DIGITS) -> None:
    """Train beside a former run's checkpoint; a run that ends well leaves a checkpoint of finite weights."""
    work_dir = folder / 'run'
    former = work_dir / 'former' / 'epoch_1.pth'
    former.parent.mkdir(parents=True)
    former.write_bytes(b'of another day')
    if case.make:
        case.make(folder)
    options = [option.replace('{folder}', str(folder)) for option in case.options]
    argv = (config, '--work-dir', str(work_dir), *argv)
    judge(case, lambda: run_train(*argv, *(('--cfg-options', *options) if options else ())), folder, capsys)
    if case.ending is None:
        written = [path for path in work_dir.rglob('*.pth') if path != former]
        for path in written:
            state = torch.load(path, weights_only=True)['state_dict']
            assert all(value.isfinite().all() for value in state.values())
        assert written


def judge_testing(
    case: Case, folder: Path, checkpoint: Path, capsys: pytest.CaptureFixture, *argv: str, config: str = DIGITS
) -> None:
    """Test a checkpoint; the metrics of a run that ends well are written."""
    metrics = folder / 'metrics.json'
    argv = (config, str(checkpoint), '--work-dir', str(folder / 'run'), '--out', str(metrics), *argv)
    options = ('--cfg-options', *case.options) if case.options else ()
    judge(case, lambda: run_test(*argv, *options), folder, capsys)
    assert metrics.exists() == (case.ending is None)
