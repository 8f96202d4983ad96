"""Runs that get a signal at any moment and are resumed, each in a process forked from one that has all imported."""

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reprefine.engine.resuming.interrupt import SIGNALS
from reprefine.engine.runner import Runner
from tests.helpers import draws, forked
from tests.helpers.run import assert_equal, run_train

# What a run knows of itself that stands elsewhere, or may differ.
NOT_COMPARED = ('cfg', 'experiment_name', 'mmengine_version', 'eta', 'epoch', 'iter')
# The end of a call of hooks, by its number in the process, or by the name of the hooks and its number among theirs.
Moment = int | tuple[str, int]


class SignalAt:
    """Sends the process a signal.

    Args:
        moment: When; 0: never.
        number: The signal.
    """

    def __init__(self, moment: Moment, number: int) -> None:
        self.name, self.count = moment if isinstance(moment, tuple) else ('any', moment)
        self.number, self.calls = number, Counter()

    def __call__(self, name: str) -> None:
        """Count a call of hooks."""
        self.calls.update(('any', name))
        if self.name in ('any', name) and self.calls[self.name] == self.count:
            os.kill(os.getpid(), self.number)


def _run(job: Callable[..., Any], arguments: tuple, work_dir: str, after: Callable[[str], None]) -> None:
    call_hook, count = Runner.call_hook, 0

    def counted(runner: Runner, name: str, **kwargs: Any) -> None:
        nonlocal count
        call_hook(runner, name, **kwargs)
        count += 1
        after(name)

    Runner.call_hook = counted
    forked.write_output_to(f'{work_dir}.log')
    torch.set_num_threads(1)
    code = job(work_dir, *arguments)
    Path(f'{work_dir}.moments').write_text(str(count))
    if code:
        raise SystemExit(code)


def in_process(job: Callable[..., Any], *arguments: Any, work_dir: Path, after: Callable[[str], None]) -> int:
    """Run ``job(work_dir, *arguments)`` in a process of its own, which leaves its output and its number of calls.

    Args:
        job: Function of a module that trains.
        arguments: Its further arguments.
        work_dir: Its first argument.
        after: Called in the process after every call of hooks, with their name.

    Returns:
        The exit code.
    """
    return forked.exit_code(_run, job, arguments, str(work_dir), after)


def run(
    job: Callable[..., Any], *arguments: Any, work_dir: Path, moment: Moment = 0, number: int = signal.SIGKILL
) -> int:
    """Run ``job(work_dir, *arguments)`` in a process of its own.

    Args:
        job: As in :func:`in_process`.
        arguments: Its further arguments.
        work_dir: Its first argument.
        moment: When the process gets a signal; 0: never.
        number: The signal.

    Returns:
        Number of calls of hooks of a run that ended by itself.
    """
    code = in_process(job, *arguments, work_dir=work_dir, after=SignalAt(moment, number))
    calls = int(Path(f'{work_dir}.moments').read_text()) if code == 0 else 0
    # A run that is told to stop when all is done ends as usual, and so does one that is over before its moment: a run
    # that was saved where it was stopped has less to do than one that repeats what it lost.
    is_over = code == 0 and isinstance(moment, int) and calls < moment
    expected = (0,) if not moment or is_over else (-number,) if number == signal.SIGKILL else (0, 128 + number)
    assert code in expected, Path(f'{work_dir}.log').read_text()
    return 0 if moment else calls


def kill_and_resume(
    job: Callable[..., Any],
    *arguments: Any,
    folder: Path,
    numbers: Sequence[int] = (),
    stops: Sequence[tuple[int, Moment]] = (),
) -> Iterator[tuple[Path, Path, str]]:
    """Train once without a stop, and once stopped by signals and resumed; under ``--every-moment`` in all ways.

    Args:
        job: As in :func:`in_process`.
        arguments: Its further arguments.
        folder: Where the work directories come to lie.
        numbers: The signals that come at drawn moments, default SIGKILL and one that lets the run save, in any order.
        stops: Instead of them, a signal and its moment for each process.

    Yields:
        Work directory of either run, and the moments, to be shown when the runs differ.
    """
    if draws.every_moment() and not stops:
        from tests.helpers.every_moment import explore  # which needs this module

        yield from explore(job, *arguments, folder=folder, again=draws.every_moment() == 'again')
        return
    whole, parts = folder / 'whole', folder / 'parts'
    moments = run(job, *arguments, work_dir=whole)
    by = f'stopped by {list(stops)}'
    if not stops:
        pick = draws.draws()
        numbers = numbers or pick.sample([signal.SIGKILL, pick.choice(SIGNALS)], 2)
        spots = sorted(pick.sample(range(1, moments), len(numbers)))
        # A resumed run repeats less than a whole one, so count from where the last one died.
        parted = [max(spot - former, 1) for former, spot in zip([0, *spots], spots, strict=False)]
        stops = list(zip(numbers, parted, strict=True))
        by = f'stopped by {[int(number) for number in numbers]} at {spots} of {moments}, {draws.drawn_by()}'
    for number, moment in stops:
        run(job, *arguments, work_dir=parts, moment=moment, number=number)
    run(job, *arguments, work_dir=parts)
    yield whole, parts, by


def train_config(work_dir: str, config: str, *options: str) -> int:
    """Train a config in this process, or go on with it."""
    return run_train(config, '--work-dir', work_dir, *options, '--resume')


def assert_equal_runs(whole: Path, parts: Path, moments: str, *keys: str) -> None:
    """Compare the last checkpoints of two runs bit by bit.

    Args:
        whole: Work directory of the one.
        parts: Work directory of the other.
        moments: When it was killed.
        keys: Entries of the checkpoint beside those that every one has.
    """
    names = [Path((folder / 'last_checkpoint').read_text()).name for folder in (whole, parts)]
    assert names[0] == names[1], moments
    ours, theirs = (torch.load(folder / names[0], weights_only=True) for folder in (whole, parts))
    for key in ('state_dict', 'optimizer', 'param_schedulers', *keys):
        assert_equal(*(comparable(checkpoint.get(key)) for checkpoint in (ours, theirs)), f'{moments}, {key}')
    assert_equal(histories(ours), histories(theirs), f'{moments}, message_hub')
    assert_equal(knowledge(ours), knowledge(theirs), f'{moments}, runtime_info')
    assert ours['meta']['iter'] == theirs['meta']['iter']
    ranks = [[comparable(rank) for rank in checkpoint['resume']['ranks']] for checkpoint in (ours, theirs)]
    assert_equal(*ranks, f'{moments}, resume')


def histories(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Return what was logged, but for times."""
    scalars = checkpoint['message_hub']['log_scalars']
    return {key: buffer._log_history.tolist() for key, buffer in scalars.items() if 'time' not in key}


def knowledge(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Return what the run knows of itself, such as its best checkpoint, without names of folders and of the run."""
    known = checkpoint['message_hub']['runtime_info']
    return {
        key: Path(value).name if key.endswith('_ckpt') else comparable(value)
        for key, value in known.items()
        if key not in NOT_COMPARED
    }


def comparable(value: Any) -> Any:
    """Return nested containers with arrays as tensors."""
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.astype(np.int64))
    if isinstance(value, Mapping):
        return {key: comparable(item) for key, item in value.items()}
    return [comparable(item) for item in value] if isinstance(value, (list, tuple)) else value
