"""Files of score statistics, of reprefine and of the released code."""

import json
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from reprefine.engine.errors import UserError, one_line
from reprefine.engine.files import atomic_write, natural_key

STATS = ('pos_mean', 'pos_var', 'neg_mean', 'neg_var')
KEYS = (*STATS, 'exp_pos', 'exp_neg', *(f'raw_{key}' for key in STATS), 'p_pos', 'contrast_top1')
PUBLISHED_COLUMNS = ('neg_mean', 'neg_var', 'pos_mean', 'exp_neg', 'exp_pos')
OWN, PUBLISHED = re.compile(r'(epoch|block)_\d+\.npz'), re.compile(r'score_\d+\.npy')


class ScoreRun(NamedTuple):
    """Statistics of one run.

    Attributes:
        name: Name of its folder.
        iters: Iterations ``[n]``, 1-based, increasing.
        epochs: Fractional epochs ``[n]``, 1 at the end of the first epoch; None for training by iterations.
        values: Values ``[n]`` by statistic.
        meta: Settings of the run.
    """

    name: str
    iters: np.ndarray
    epochs: np.ndarray | None
    values: dict[str, np.ndarray]
    meta: dict[str, Any]


def write_block(path: Path, iters: np.ndarray, values: dict[str, np.ndarray], meta: dict[str, Any]) -> None:
    """Write one file of score statistics, atomically.

    Args:
        path: File to write, ``*.npz``.
        iters: Iterations ``[n]``.
        values: Values ``[n]`` by statistic.
        meta: Settings of the run, serialisable as JSON.
    """
    columns = {key: np.asarray(column, np.float32) for key, column in values.items()}
    with atomic_write(path) as partial:
        np.savez_compressed(partial, iter=np.asarray(iters, np.int64), meta=json.dumps(meta), **columns)


def read_block(path: Path) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, Any]]:
    """Read iterations, values and settings from a file of :func:`write_block`.

    Raises:
        UserError: If the file is corrupted or has another content.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            columns = {key: file[key] for key in file.files}
        iters, meta = columns.pop('iter'), json.loads(str(columns.pop('meta')))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(
            f'{path} is corrupted or has no score statistics ({type(error).__name__}): restore it'
        ) from error
    return iters, columns, meta


def read_run(folder: str | Path) -> ScoreRun:
    """Read the score statistics of a run.

    Args:
        folder: Work directory, its folder ``score_stats``, or a folder with ``score_*.npy`` of the released code.

    Raises:
        UserError: If the folder has no score statistics.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f'{folder} is not a folder: give a work directory or a folder of score statistics')
    for candidate in (folder, folder / 'score_stats', folder / 'scores'):
        files = sorted(candidate.glob('*.np?'), key=natural_key)
        for pattern, read in ((OWN, _read_own), (PUBLISHED, _read_published)):
            if chosen := [path for path in files if pattern.fullmatch(path.name)]:
                return read(folder.resolve().name, chosen)
    raise UserError(
        f'{folder} has no score statistics (score_stats/*.npz or score_*.npy): train with reprefine.ScoreStatsHook'
    )


def _read_own(name: str, paths: list[Path]) -> ScoreRun:
    blocks = [read_block(path) for path in paths]
    keys = [key for key in blocks[0][1] if all(key in values for _, values, _ in blocks)]
    iters = np.concatenate([iters for iters, _, _ in blocks])
    if (np.diff(iters) <= 0).any():
        raise UserError(f'{paths[0].parent} has files of several runs, whose iterations overlap: separate them')
    epochs = None
    if all(path.name.startswith('epoch') for path in paths):
        length = max(block[2].get('epoch_length') or 1 for block in blocks)
        epochs = iters / length
    values = {key: np.concatenate([block[1][key] for block in blocks]) for key in keys}
    return ScoreRun(name, iters, epochs, values, blocks[-1][2])


def _read_published(name: str, paths: list[Path]) -> ScoreRun:
    """Average over the samples of every iteration, as the released notebook does."""
    files = [[np.asarray(batch, np.float64) for batch in read_published_file(path)] for path in paths]
    rows = [batch for file in files for batch in file]
    if any(batch.ndim != 2 or batch.shape[1] != len(PUBLISHED_COLUMNS) for batch in rows):
        raise UserError(f'{paths[0].parent}: score files of the released code have arrays [iterations, batch, 5]')
    means = np.stack([batch.mean(axis=0) for batch in rows])
    values = dict(zip(PUBLISHED_COLUMNS, means.T, strict=True))
    values['pos_var'] = np.array([batch[:, PUBLISHED_COLUMNS.index('pos_mean')].var() for batch in rows])
    epochs = np.concatenate([index + np.arange(1, len(file) + 1) / len(file) for index, file in enumerate(files)])
    return ScoreRun(name, np.arange(1, len(rows) + 1), epochs, values, {})


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickles NumPy arrays only."""

    def find_class(self, module: str, name: str) -> Any:
        root = module.partition('.')[0]
        if root == 'numpy' and name in ('_reconstruct', 'ndarray', 'dtype', 'scalar'):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f'{module}.{name} is not an array')


def read_published_file(path: Path) -> np.ndarray:
    """Read a ``score_*.npy``, including object arrays of batches that differ in size.

    Raises:
        UserError: If it is corrupted or contains anything but arrays, which is never executed.
    """
    try:
        with open(path, 'rb') as file:
            version = np.lib.format.read_magic(file)
            read_header = getattr(np.lib.format, f'read_array_header_{version[0]}_{version[1]}')
            if read_header(file)[2].hasobject:
                return _ArrayUnpickler(file).load()
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, AttributeError, pickle.UnpicklingError) as error:
        raise UserError(f'{path} is not a score file of the released code ({one_line(error)}): restore it') from error
