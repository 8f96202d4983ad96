"""Builds the toy datasets: atomic, reproducible, and without overwriting files of others."""

import importlib
import json
import shutil
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.progress import track

from reprefine.engine.errors import UserError
from reprefine.engine.files import atomic_write

MARKER = '.toy_data.json'
# Raise it when the content of a set changes, so that older data are refused.
VERSION = 2


class ToySet(NamedTuple):
    """Where a set is written and by what.

    Attributes:
        folder: Folder below the output folder.
        module: Module of this package with ``write(folder, rng)``.
        base: Another set, made before, to whose folder this one only adds files.
    """

    folder: str
    module: str
    base: str | None = None


SETS = {
    'cifar10': ToySet('cifar10', 'cifar10'),
    'imagenet': ToySet('imagenet', 'imagenet'),
    'imagenet100': ToySet('imagenet', 'imagenet100', base='imagenet'),
    'tiny-imagenet': ToySet('tiny-imagenet-200', 'tiny_imagenet'),
    'inaturalist2018': ToySet('inaturalist2018', 'inaturalist2018'),
    'market1501': ToySet('market1501', 'market1501'),
    'msmt17': ToySet('msmt17', 'msmt17'),
    'dukemtmc': ToySet('dukemtmc', 'dukemtmc'),
    'cuhk03': ToySet('cuhk03', 'cuhk03'),
    'coco': ToySet('coco', 'coco'),
    'voc': ToySet('VOCdevkit', 'voc'),
    'ade20k': ToySet('ade/ADEChallengeData2016', 'ade20k'),
    'nyu': ToySet('nyu', 'nyu'),
    'celebamask-hq': ToySet('celebamask-hq', 'celebamask_hq'),
    'wflw': ToySet('wflw', 'wflw'),
}


def make_toy_data(out: Path, only: Sequence[str] | None = None, seed: int = 0) -> list[Path]:
    """Write toy datasets below a folder; a set that an earlier call finished with the same seed is left as it is.

    Args:
        out: Folder to write into: new, empty or made by an earlier call.
        only: Names from :data:`SETS`, default all. A set that another one adds to is made along with it.
        seed: Seed from 0. The bytes of a set depend on the seed and its own name alone.

    Returns:
        The folders of the sets, in the order of :data:`SETS`.

    Raises:
        UserError: If a name is unknown, the seed is negative or not the one of the folder, or the folder or a set's
            folder in it holds files that no earlier call made.
    """
    out = Path(out)
    names = _with_bases(only or tuple(SETS))
    if seed < 0:
        raise UserError(f'seed {seed}: give 0 or more')
    finished = _finished_sets(out, seed)
    _check_foreign_files(out, [name for name in names if name not in finished])
    # The marker comes before the sets: without it the next call would refuse the folder.
    _write_marker(out, seed, finished)
    for name in track(names, description='toy data'):
        if SETS[name].base or name not in finished or _is_free(out / SETS[name].folder):
            finished.add(name)
            _build(out, name, seed, finished)
    return list(dict.fromkeys(out / SETS[name].folder for name in names))


def _with_bases(names: Sequence[str]) -> list[str]:
    if unknown := [name for name in names if name not in SETS]:
        raise UserError(f'unknown toy data {", ".join(unknown)}; choose from {", ".join(SETS)}')
    wanted = {*names, *(SETS[name].base for name in names)}
    return [name for name in SETS if name in wanted]


def _finished_sets(out: Path, seed: int) -> set[str]:
    """Return the names of the sets that earlier calls wrote to ``out``, which must have had the same seed."""
    marker = out / MARKER
    if not marker.exists():
        if out.exists() and not (out.is_dir() and all(path.name.startswith('.') for path in out.iterdir())):
            raise UserError(f'{out} was not made by this tool: choose a new or an empty folder')
        return set()
    try:
        content = json.loads(marker.read_text())
        before = content['seed'], content['version']
        names = set(content['names'])
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f'{marker} is damaged: remove {out} and make it again') from error
    if before != (seed, VERSION):
        made_by = f'seed {before[0]} by version {before[1]}'
        raise UserError(
            f'{out} was made with {made_by}, not seed {seed} by version {VERSION}: remove it or choose another folder'
        )
    return names


def _check_foreign_files(out: Path, names: Sequence[str]) -> None:
    for folder in (out / SETS[name].folder for name in names if not SETS[name].base):
        if not _is_free(folder):
            raise UserError(f'{folder} was not made by this tool: remove it or choose another output folder')


def _is_free(folder: Path) -> bool:
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))


def _build(out: Path, name: str, seed: int, finished: set[str]) -> None:
    """Write one set into a temporary folder and rename it, unless it adds to another set."""
    toy = SETS[name]
    write = importlib.import_module(f'{__package__}.{toy.module}').write
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    target = out / toy.folder
    if toy.base:
        write(target, rng)
        _write_marker(out, seed, finished)
        return
    partial = target.with_name(f'.{target.name}.partial')
    shutil.rmtree(partial, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        write(partial, rng)
        _write_marker(out, seed, finished)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_marker(out: Path, seed: int, finished: set[str]) -> None:
    with atomic_write(out / MARKER) as path:
        Path(path).write_text(json.dumps(dict(seed=seed, version=VERSION, names=sorted(finished))) + '\n')
