"""Running dependent scripts in parallel processes, with a progress bar."""

import multiprocessing
import os
import runpy
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from reprefine.engine.errors import UserError


@dataclass(frozen=True)
class Job:
    """A Python script to run once.

    Attributes:
        name: Unique name, shown while the job runs.
        command: Script and its arguments.
        log: File for the output of the script.
        after: Names of the jobs that must have finished before.
        product: File that the script writes; if it exists, the job is skipped.
    """

    name: str
    command: Sequence[str]
    log: Path
    after: tuple[str, ...] = ()
    product: Path | None = None


def run_jobs(jobs: Sequence[Job], workers: int, preload: Sequence[str] = ()) -> None:
    """Run all jobs, at most ``workers`` at a time with one thread each, each after the jobs it depends on.

    Every job is a process of its own, forked from one that has imported the modules ``preload``, which takes seconds
    for OpenMMLab libraries.

    Raises:
        UserError: If a job fails; the running ones are terminated, results of finished ones are kept.
    """
    os.environ['OMP_NUM_THREADS'] = '1'  # so that results do not depend on the number of jobs
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(list(preload))
    done = {job.name for job in jobs if job.product is not None and job.product.is_file()}
    pending = [job for job in jobs if job.name not in done]
    running: dict[BaseProcess, Job] = {}
    columns = (TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns) as progress:
        bar = progress.add_task('starting', total=len(jobs), completed=len(done))
        try:
            while pending or running:
                for job in [job for job in pending if done.issuperset(job.after)][: workers - len(running)]:
                    pending.remove(job)
                    running[_start_job(context, job)] = job
                progress.update(bar, description=', '.join(job.name for job in running.values()))
                for job in _wait_for_jobs(running):
                    done.add(job.name)
                    progress.console.print(f'done: {job.name}')
                progress.update(bar, completed=len(done))
        finally:
            for process in running:
                process.terminate()


def _start_job(context: multiprocessing.context.BaseContext, job: Job) -> BaseProcess:
    job.log.parent.mkdir(parents=True, exist_ok=True)
    process = context.Process(target=_run_script, args=(list(map(str, job.command)), str(job.log)), name=job.name)
    process.start()
    return process


def _run_script(command: list[str], log: str) -> None:
    """Run a script as ``python SCRIPT ARGS >LOG 2>&1`` would."""
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    for stream in (1, 2):
        os.dup2(file, stream)
    sys.argv, sys.path[0] = command, str(Path(command[0]).parent)
    runpy.run_path(command[0], run_name='__main__')


def _wait_for_jobs(running: dict[BaseProcess, Job]) -> list[Job]:
    """Wait until a job finishes and return the finished ones.

    Raises:
        UserError: If one failed.
    """
    ready = wait([process.sentinel for process in running])
    ended = [process for process in running if process.sentinel in ready]
    for process in ended:
        process.join()
        if process.exitcode:
            job = running.pop(process)
            last = (job.log.read_text().strip().splitlines() or ['no output'])[-1]
            raise UserError(f'step "{job.name}" failed with exit code {process.exitcode}: {last} (log: {job.log})')
    return [running.pop(process) for process in ended]
