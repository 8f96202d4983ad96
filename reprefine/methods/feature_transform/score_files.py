"""Files of score statistics: ours, and those of the released code."""

import json
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from reprefine.engine.errors import UserError
from reprefine.engine.files import atomic_write, natural_key

STATS = ('pos_mean', 'pos_var', 'neg_mean', 'neg_var')
KEYS = (*STATS, 'exp_pos', 'exp_neg', *(f'raw_{key}' for key in STATS), 'p_pos', 'contrast_top1')
PUBLISHED_COLUMNS = ('neg_mean', 'neg_var', 'pos_mean', 'exp_neg', 'exp_pos')
OWN, PUBLISHED = re.compile(r'(epoch|block)_\d+\.npz'), re.compile(r'score_\d+\.npy')


class ScoreRun(NamedTuple):
    """Statistics of one run.

    Attributes:
        name: Name of its folder.
        iters: Iterations ``[n]``, counted from 1, increasing.
        epochs: Position in epochs ``[n]``, the end of the first being 1; None if the run had none.
        values: For each statistic its values ``[n]``.
        meta: What the run said about itself.
    """

    name: str
    iters: np.ndarray
    epochs: np.ndarray | None
    values: dict[str, np.ndarray]
    meta: dict[str, Any]


def write_block(path: Path, iters: np.ndarray, values: dict[str, np.ndarray], meta: dict[str, Any]) -> None:
    """Write one file; it appears whole or not at all.

    Args:
        path: File to write, ``*.npz``.
        iters: Iterations ``[n]``.
        values: For each statistic its values ``[n]``.
        meta: What JSON can hold.
    """
    columns = {key: np.asarray(column, np.float32) for key, column in values.items()}
    with atomic_write(path) as partial:
        np.savez_compressed(partial, iter=np.asarray(iters, np.int64), meta=json.dumps(meta), **columns)


def read_block(path: Path) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, Any]]:
    """Read what :func:`write_block` wrote: iterations, values and what the run said about itself.

    Raises:
        UserError: If the file is damaged or something else.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            columns = {key: file[key] for key in file.files}
        iters, meta = columns.pop('iter'), json.loads(str(columns.pop('meta')))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f'{path} is damaged or holds no score statistics ({type(error).__name__})') from error
    return iters, columns, meta


def read_run(folder: str | Path) -> ScoreRun:
    """Read the statistics of a run.

    Args:
        folder: Its work directory, the folder of its statistics, or a folder of ``score_*.npy`` of the released code.

    Raises:
        UserError: If there are none.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f'{folder} is no folder: give a work directory or a folder of score statistics')
    for place in (folder, folder / 'score_stats', folder / 'scores'):
        files = sorted(place.glob('*.np?'), key=natural_key)
        for pattern, read in ((OWN, _read_own), (PUBLISHED, _read_published)):
            if chosen := [path for path in files if pattern.fullmatch(path.name)]:
                return read(folder.resolve().name, chosen)
    raise UserError(
        f'{folder} holds no score statistics (score_stats/*.npz or score_*.npy): train with reprefine.ScoreStatsHook'
    )


def _read_own(name: str, paths: list[Path]) -> ScoreRun:
    blocks = [read_block(path) for path in paths]
    keys = [key for key in blocks[0][1] if all(key in values for _, values, _ in blocks)]
    iters = np.concatenate([iters for iters, _, _ in blocks])
    if (np.diff(iters) <= 0).any():
        raise UserError(f'{paths[0].parent} holds files of several runs: their iterations overlap')
    epochs = None
    if all(path.name.startswith('epoch') for path in paths):
        length = max(block[2].get('epoch_length') or 1 for block in blocks)
        epochs = iters / length
    values = {key: np.concatenate([block[1][key] for block in blocks]) for key in keys}
    return ScoreRun(name, iters, epochs, values, blocks[-1][2])


def _read_published(name: str, paths: list[Path]) -> ScoreRun:
    """Reduce the samples of every iteration as the released notebook does."""
    files = [[np.asarray(batch, np.float64) for batch in load_published(path)] for path in paths]
    rows = [batch for file in files for batch in file]
    if any(batch.ndim != 2 or batch.shape[1] != len(PUBLISHED_COLUMNS) for batch in rows):
        raise UserError(f'{paths[0].parent}: score files of the released code hold [iterations, batch, 5]')
    means = np.stack([batch.mean(axis=0) for batch in rows])
    values = dict(zip(PUBLISHED_COLUMNS, means.T, strict=True))
    values['pos_var'] = np.array([batch[:, PUBLISHED_COLUMNS.index('pos_mean')].var() for batch in rows])
    epochs = np.concatenate([index + np.arange(1, len(file) + 1) / len(file) for index, file in enumerate(files)])
    return ScoreRun(name, np.arange(1, len(rows) + 1), epochs, values, {})


class _ArraysOnly(pickle.Unpickler):
    """Rebuilds NumPy arrays and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        root = module.partition('.')[0]
        if root == 'numpy' and name in ('_reconstruct', 'ndarray', 'dtype', 'scalar'):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f'{module}.{name} is no array')


def load_published(path: Path) -> np.ndarray:
    """Read a ``score_*.npy``, also one whose batches differ in size and are therefore stored as objects.

    Raises:
        UserError: If it is damaged or holds anything but arrays; nothing in it is run.
    """
    try:
        with open(path, 'rb') as file:
            version = np.lib.format.read_magic(file)
            read_header = getattr(np.lib.format, f'read_array_header_{version[0]}_{version[1]}')
            if read_header(file)[2].hasobject:
                return _ArraysOnly(file).load()
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, AttributeError, pickle.UnpicklingError) as error:
        raise UserError(f'{path} is no score file of the released code ({" ".join(str(error).split())})') from error
