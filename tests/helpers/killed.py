"""Runs that receive a signal at any moment and are resumed, each in a process forked from one with all imports."""

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
from tests.helpers import forked, random_choices
from tests.helpers.run import assert_equal, run_train

# Runtime info that is compared elsewhere or may differ.
NOT_COMPARED = ('cfg', 'experiment_name', 'mmengine_version', 'eta', 'epoch', 'iter')
# The end of a call of hooks: its number in the process, or the name of the hook point and the number of its call.
Moment = int | tuple[str, int]


class SignalAt:
    """Sends the process a signal.

    Args:
        moment: The moment; 0: never.
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
    """Run ``job(work_dir, *arguments)`` in a forked process, which writes its output and its number of calls to files.

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
    """Run ``job(work_dir, *arguments)`` in a forked process.

    Args:
        job: As in :func:`in_process`.
        arguments: Its further arguments.
        work_dir: Its first argument.
        moment: When the process receives a signal; 0: never.
        number: The signal.

    Returns:
        Number of calls of hooks of a run without a signal.
    """
    code = in_process(job, *arguments, work_dir=work_dir, after=SignalAt(moment, number))
    calls = int(Path(f'{work_dir}.moments').read_text()) if code == 0 else 0
    # A run with a signal after its last iteration ends as usual, and so does one that ends before its moment: after a
    # checkpoint at the stop less is repeated than after a kill.
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
    """Train once uninterrupted, and once stopped by signals and resumed; with ``--every-moment`` in all ways.

    Args:
        job: As in :func:`in_process`.
        arguments: Its further arguments.
        folder: Parent of the work directories.
        numbers: Signals at random moments, default SIGKILL and one that lets the run save, in any order.
        stops: Instead of them, a signal and its moment for each process.

    Yields:
        Work directories of the uninterrupted and the resumed run, and the moments, for messages.
    """
    if random_choices.every_moment() and not stops:
        from tests.helpers.every_moment import explore  # which imports this module

        yield from explore(job, *arguments, folder=folder, again=random_choices.every_moment() == 'again')
        return
    uninterrupted, resumed = folder / 'uninterrupted', folder / 'resumed'
    moments = run(job, *arguments, work_dir=uninterrupted)
    by = f'stopped by {list(stops)}'
    if not stops:
        pick = random_choices.rng()
        numbers = numbers or pick.sample([signal.SIGKILL, pick.choice(SIGNALS)], 2)
        spots = sorted(pick.sample(range(1, moments), len(numbers)))
        # A resumed run makes fewer calls than an uninterrupted one: count from the former stop.
        distances = [max(spot - former, 1) for former, spot in zip([0, *spots], spots, strict=False)]
        stops = list(zip(numbers, distances, strict=True))
        signals = [int(number) for number in numbers]
        by = f'stopped by {signals} at {spots} of {moments}, {random_choices.how_to_repeat()}'
    for number, moment in stops:
        run(job, *arguments, work_dir=resumed, moment=moment, number=number)
    run(job, *arguments, work_dir=resumed)
    yield uninterrupted, resumed, by


def train_config(work_dir: str, config: str, *options: str) -> int:
    """Train a config in this process, or resume it."""
    return run_train(config, '--work-dir', work_dir, *options, '--resume')


def assert_equal_runs(first: Path, second: Path, moments: str, *keys: str) -> None:
    """Compare the last checkpoints of two runs bit by bit.

    Args:
        first: Work directory of one run.
        second: Work directory of the other.
        moments: When it was stopped, for messages.
        keys: Further entries of the checkpoint.
    """
    names = [Path((folder / 'last_checkpoint').read_text()).name for folder in (first, second)]
    assert names[0] == names[1], moments
    one, other = (torch.load(folder / names[0], weights_only=True) for folder in (first, second))
    for key in ('state_dict', 'optimizer', 'param_schedulers', *keys):
        assert_equal(*(comparable(checkpoint.get(key)) for checkpoint in (one, other)), f'{moments}, {key}')
    assert_equal(histories(one), histories(other), f'{moments}, message_hub')
    assert_equal(runtime_info(one), runtime_info(other), f'{moments}, runtime_info')
    assert one['meta']['iter'] == other['meta']['iter']
    ranks = [[comparable(rank) for rank in checkpoint['resume']['ranks']] for checkpoint in (one, other)]
    assert_equal(*ranks, f'{moments}, resume')


def histories(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Return the logged values, except times."""
    scalars = checkpoint['message_hub']['log_scalars']
    return {key: buffer._log_history.tolist() for key, buffer in scalars.items() if 'time' not in key}


def runtime_info(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Return the runtime info, such as the best checkpoint, without names of folders and of the run."""
    info = checkpoint['message_hub']['runtime_info']
    return {
        key: Path(value).name if key.endswith('_ckpt') else comparable(value)
        for key, value in info.items()
        if key not in NOT_COMPARED
    }


def comparable(value: Any) -> Any:
    """Return nested containers with arrays as tensors."""
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.astype(np.int64))
    if isinstance(value, Mapping):
        return {key: comparable(item) for key, item in value.items()}
    return [comparable(item) for item in value] if isinstance(value, (list, tuple)) else value
