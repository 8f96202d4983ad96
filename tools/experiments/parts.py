"""Execution of an experiment in parts: each is computed in a process of its own, once, and its values are kept."""

import json
import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reprefine.engine.errors import UserError
from reprefine.engine.files import atomic_write

Values = dict[str, Any]


def run_parts(
    function: Callable[..., Values], parts: Mapping[str, tuple], out: Path, jobs: int = 2
) -> dict[str, Values]:
    """Compute the parts that have no values yet, each on one thread.

    Args:
        function: Function of a module, called with the arguments of each part. It returns values that JSON can hold and
            draws random numbers only from seeds among its arguments.
        parts: Arguments by the name of the part, which is the name of its file.
        out: Folder of the values, ``<name>.json``. Delete a file to compute its part again.
        jobs: Number of processes.

    Returns:
        Values by the name of the part, with the additional key ``seconds``.

    Raises:
        UserError: If the user interrupts; finished parts are kept.
    """
    files = {name: out / f'{name}.json' for name in parts}
    missing = {name: arguments for name, arguments in parts.items() if not files[name].is_file()}
    if missing:
        print(f'{len(missing)} of {len(parts)} parts to compute, {jobs} at a time; values in {out}')
        with _pool(jobs) as pool:
            futures = {pool.submit(_timed, function, arguments): name for name, arguments in missing.items()}
            _save(futures, files)
    return {name: json.loads(file.read_text()) for name, file in files.items()}


@contextmanager
def _pool(jobs: int) -> Iterator[ProcessPoolExecutor]:
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context('spawn'), _one_thread)
    try:
        yield pool
    except KeyboardInterrupt:
        raise UserError('interrupted: the same command continues with the parts that are left') from None
    finally:
        pool.shutdown(cancel_futures=True)


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def _timed(function: Callable[..., Values], arguments: tuple) -> Values:
    start = time.perf_counter()
    return {**function(*arguments), 'seconds': round(time.perf_counter() - start, 2)}


def _save(futures: Mapping[Future, str], files: Mapping[str, Path]) -> None:
    from tqdm import tqdm

    for future in tqdm(as_completed(futures), total=len(futures)):
        with atomic_write(files[futures[future]]) as partial:
            Path(partial).write_text(json.dumps(future.result()))


def total_seconds(values: Mapping[str, Values]) -> float:
    """Return the seconds that all parts took together."""
    return sum(part['seconds'] for part in values.values())
