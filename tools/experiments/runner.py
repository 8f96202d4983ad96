"""Shared by all experiments: jobs that train and test configs, their execution, and the report."""

import argparse
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from reprefine.engine.cli.jobs import Job, run_jobs
from reprefine.engine.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
# Modules that every job of a classification experiment imports; the forked processes share them.
PRELOAD = (
    'mmpretrain.models',
    'mmpretrain.datasets',
    'mmpretrain.evaluation',
    'mmpretrain.engine',
    'mmpretrain.visualization',
    'reprefine.engine.cli.train',
    'reprefine.engine.cli.test',
    'reprefine.methods',
)
MARKER = '.reprefine-demo'


def add_run_arguments(parser: argparse.ArgumentParser, out: str, seeds: int = 5) -> None:
    """Add ``--seeds``, ``--jobs`` and ``--out``.

    Args:
        parser: Parser of the experiment.
        out: Default output folder, relative to the repository.
        seeds: Default number of seeds.
    """
    parser.add_argument('--seeds', type=int, default=seeds, help=f'number of repetitions (default: {seeds})')
    parser.add_argument('--jobs', type=int, default=2, help='processes at a time (default: 2)')
    parser.add_argument('--out', type=Path, default=ROOT / out, help=f'output folder (default: {out})')


def config_file(name: str) -> Path:
    """Return the file of a config, given by its path below ``configs`` without suffix."""
    return ROOT / 'configs' / f'{name}.py'


def tool_job(
    name: str, tool: str, arguments: Sequence[object], log: Path, after: Sequence[str] = (), product: Path | None = None
) -> Job:
    """Return a job that runs ``tools/<tool>``; see :class:`reprefine.engine.cli.jobs.Job` for the other arguments."""
    return Job(name, [str(word) for word in (ROOT / 'tools' / tool, *arguments)], log, tuple(after), product)


def train_job(
    name: str,
    config: Path,
    work_dir: Path,
    checkpoint: str,
    options: Sequence[str] = (),
    arguments: Sequence[object] = (),
    log: Path | None = None,
    after: Sequence[str] = (),
) -> Job:
    """Return the training of a config, which resumes from its last checkpoint.

    Args:
        name: Unique name of the job.
        config: Config file.
        work_dir: Work dir.
        checkpoint: Name of the last checkpoint; if it exists, the job is skipped.
        options: Values of ``--cfg-options``.
        arguments: Other arguments of ``tools/train.py``.
        log: Log file of the job; default ``train.log`` in the work dir.
        after: Names of the jobs that must be finished before.
    """
    words = [config, '--work-dir', work_dir, '--resume', *arguments, *_cfg_options(options)]
    return tool_job(name, 'train.py', words, log or work_dir / 'train.log', after, work_dir / checkpoint)


def test_job(
    name: str,
    config: Path,
    checkpoint: Path,
    metrics: Path,
    options: Sequence[str] = (),
    arguments: Sequence[object] = (),
    log: Path | None = None,
    after: Sequence[str] = (),
) -> Job:
    """Return the test of a checkpoint.

    Args:
        name: Unique name of the job.
        config: Config file.
        checkpoint: Checkpoint file.
        metrics: JSON file of the metrics; if it exists, the job is skipped. The work dir is ``test`` beside it.
        options: Values of ``--cfg-options``.
        arguments: Other arguments of ``tools/test.py``.
        log: Log file of the job; default ``test.log`` beside the metrics.
        after: Names of the jobs that must be finished before.
    """
    words = [config, checkpoint, '--work-dir', metrics.parent / 'test', '--out', metrics, *arguments]
    return tool_job(
        name, 'test.py', [*words, *_cfg_options(options)], log or metrics.parent / 'test.log', after, metrics
    )


def _cfg_options(options: Sequence[str]) -> list[str]:
    return ['--cfg-options', *options] if options else []


def run(
    jobs: Sequence[Job], args: argparse.Namespace, preload: Sequence[str] = PRELOAD, resume: Sequence[str] = ()
) -> None:
    """Run the jobs that are not finished.

    Args:
        jobs: All jobs of the experiment.
        args: Arguments with ``jobs``, the number of processes at a time, and ``out``.
        preload: Modules that the jobs import.
        resume: Option that continues an interrupted experiment, if its command does not do so without.

    Raises:
        UserError: If a job fails, or the user interrupts; the message has the command that resumes.
    """
    print(f'{len(jobs)} jobs, {args.jobs} at a time; logs and results in {args.out}')
    try:
        run_jobs(jobs, args.jobs, preload)
    except KeyboardInterrupt:
        words = [word for word in sys.argv if word not in resume]
        raise UserError(f'interrupted: resume with {shlex.join([sys.executable, *words, *resume])}') from None


def prepare_folder(out: Path, resume: bool) -> None:
    """Create the output folder, and delete its content unless an interrupted experiment is resumed.

    Raises:
        UserError: If the folder has content that no experiment wrote.
    """
    if out.exists() and not resume:
        if any(out.iterdir()) and not (out / MARKER).is_file():
            raise UserError(f'{out} is not the folder of an experiment: give another one with --out')
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
    (out / MARKER).touch()


def save_report(text: str, file: Path) -> None:
    """Write a report and print it."""
    file.write_text(f'{text}\n')
    print(text)
