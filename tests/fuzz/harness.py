"""Runs a tool with one bad input and checks its exit code and error line."""

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

SECONDS = 120  # limit for a case


class Case(NamedTuple):
    """One bad input.

    Attributes:
        name: What is bad.
        ending: Pattern of the error line, or None if the run must succeed.
        options: Values for ``--cfg-options``.
        make: Writes the bad file into the folder of the case.
    """

    name: str
    ending: str | None
    options: tuple[str, ...] = ()
    make: Callable[[Path], None] | None = None


def parametrize(cases: list[Case]) -> Callable:
    """Parametrize a test by cases, with a time limit."""

    def decorate(test: Callable) -> Callable:
        return pytest.mark.timeout(SECONDS)(pytest.mark.parametrize('case', cases, ids=lambda case: case.name)(test))

    return decorate


def digests(folder: Path) -> dict[Path, str]:
    """Return the checksum of every checkpoint below a folder."""
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob('*.pth') if path.is_file()}


def check(case: Case, run: Callable[[], int], folder: Path, capsys: pytest.CaptureFixture) -> None:
    """Run and check the expected result of the case, and that no checkpoint is lost.

    Args:
        case: The case.
        run: Runs the tool; returns its exit code.
        folder: Folder of all its files.
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
        assert code in (1, 2), 'the bad input was accepted'
        assert len(errors) == 1, lines
        assert errors[0] == lines[-1]
        assert re.search(case.ending, errors[0]), errors[0]
        assert len(errors[0]) < 1500


def _code(run: Callable[[], int]) -> int | str | None:
    try:
        return run()
    except SystemExit as stop:  # of argparse
        return stop.code


def check_training(case: Case, folder: Path, capsys: pytest.CaptureFixture, *argv: str, config: str = DIGITS) -> None:
    """Train beside the checkpoint of a former run; a run that succeeds writes checkpoints with finite weights."""
    work_dir = folder / 'run'
    former = work_dir / 'former' / 'epoch_1.pth'
    former.parent.mkdir(parents=True)
    former.write_bytes(b'of a former run')
    if case.make:
        case.make(folder)
    options = [option.replace('{folder}', str(folder)) for option in case.options]
    argv = (config, '--work-dir', str(work_dir), *argv)
    check(case, lambda: run_train(*argv, *(('--cfg-options', *options) if options else ())), folder, capsys)
    if case.ending is None:
        written = [path for path in work_dir.rglob('*.pth') if path != former]
        for path in written:
            state = torch.load(path, weights_only=True)['state_dict']
            assert all(value.isfinite().all() for value in state.values())
        assert written


def check_testing(
    case: Case, folder: Path, checkpoint: Path, capsys: pytest.CaptureFixture, *argv: str, config: str = DIGITS
) -> None:
    """Test a checkpoint; a run that succeeds writes its metrics."""
    metrics = folder / 'metrics.json'
    argv = (config, str(checkpoint), '--work-dir', str(folder / 'run'), '--out', str(metrics), *argv)
    options = ('--cfg-options', *case.options) if case.options else ()
    check(case, lambda: run_test(*argv, *options), folder, capsys)
    assert metrics.exists() == (case.ending is None)
