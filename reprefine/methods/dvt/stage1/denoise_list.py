"""Denoising a list of images: which are left, whether the disk holds them, and going on when one fails."""

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor

from reprefine.engine.data_checks.images import read_image
from reprefine.engine.errors import UserError

from ..functional import grid_size
from .fit import OnStep, Terms
from .pipeline import Stage1
from .storage import FeaturePairs, read_list

COMPONENT_KEYS = ('G', 'Delta', 'subtracted')
IMAGES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp')


def read_names(data_root: Path, list_file: Path | None) -> list[str]:
    """Return the images to denoise, relative to ``data_root``.

    Args:
        data_root: Folder of the images.
        list_file: See :func:`~.files.read_list`. None lists all images below the root.

    Raises:
        UserError: If nothing is listed, or root or list do not exist.
    """
    if not data_root.is_dir():
        raise UserError(f'data root {data_root} does not exist')
    if list_file is not None:
        return read_list(list_file, lambda name: (data_root / name).is_file())
    files = (file for file in sorted(data_root.rglob('*')) if file.suffix.lower() in IMAGES)
    if not (names := [file.relative_to(data_root).as_posix() for file in files]):
        raise UserError(f'data root {data_root} holds no image')
    return names


def shard(names: Sequence[str], index: int, count: int) -> list[str]:
    """Return the part of one machine (1 of n, 2 of n, ...), and of it that of this process of torchrun.

    Raises:
        UserError: If ``index`` is not in 1..``count``.
    """
    if not 1 <= index <= count:
        raise UserError(f'--shard {index}/{count}: count from 1/{count} to {count}/{count}')
    rank, world = int(os.environ.get('RANK', 0)), int(os.environ.get('WORLD_SIZE', 1))
    return list(names[index - 1 :: count])[rank::world]


def needed_bytes(stage1: Stage1, pairs: FeaturePairs) -> int:
    """Return the size of what is yet to be written; this runs the network once."""
    rows, columns = grid_size(stage1.config.image_size, stage1.patch_size, stage1.stride)
    components = 3 if stage1.config.solver == 'field' or stage1.config.closed_form_config.residual else 2
    arrays = sum(len(pairs.kinds) * (not pairs.has_pair(name)) for name in pairs.names)
    if pairs.with_components:
        arrays += components * sum(not pairs.has_components(name) for name in pairs.names)
    return arrays * rows * columns * stage1.channels() * pairs.dtype.itemsize


def check_disk(folder: Path, needed: int) -> str:
    """Return a line about the disk.

    Raises:
        UserError: If it has less free than needed.
    """
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    line = f'{needed / 2**30:.2f} GiB to write below {folder}, {free / 2**30:.1f} GiB free'
    if needed > free:
        raise UserError(f'{line}; free some, store float16, or denoise fewer images')
    return line


def denoise_all(stage1: Stage1, pairs: FeaturePairs, data_root: Path) -> tuple[int, dict[str, str]]:
    """Denoise the images of ``pairs`` that are not complete yet; one that fails is skipped.

    Args:
        stage1: Network and solver.
        pairs: The images and where their features go.
        data_root: Folder of the images.

    Returns:
        How many images were denoised, and the reason for each that failed.
    """
    left = [name for name in pairs.names if not pairs.is_complete(name)]
    failed: dict[str, str] = {}
    columns = (TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn()) as progress:
        bar = progress.add_task('images', total=len(left))
        step = progress.add_task('steps', total=stage1.config.fit_config.iterations, visible=False)

        def on_step(number: int, terms: Terms) -> None:
            if number % 50 == 0:  # reading a loss waits for the device
                text = ', '.join(f'{name} {float(term.mean()):.4f}' for name, term in terms.items())
                progress.update(step, completed=number + 1, description=text, visible=True)

        for names in _groups(left, stage1.config.images_at_once):
            progress.update(bar, description=Path(names[0]).name)
            for name, result in _denoise(stage1, data_root, names, failed, on_step):
                try:
                    _write(pairs, name, {key: part.numpy() for key, part in result.items() if part is not None})
                except UserError as error:
                    failed[name] = str(error)
            progress.update(bar, advance=len(names))
            if not progress.console.is_terminal:  # a log file shows no moving bar
                task = progress.tasks[0]
                progress.console.print(
                    f'{int(task.completed)}/{len(left)} images, {task.time_remaining or 0:.0f} s to go'
                )
    return len(left) - len(failed), failed


def _groups(names: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for first in range(0, len(names), size):
        yield names[first : first + size]


def _denoise(
    stage1: Stage1, data_root: Path, names: Sequence[str], failed: dict[str, str], on_step: OnStep
) -> Iterator[tuple[str, dict[str, Tensor | None]]]:
    """Yield the results of images that are fitted together; note those that cannot be read or are not finite."""
    ready = {}
    for name in names:
        try:
            views = stage1.views(name)
            ready[name] = stage1.features(stage1.prepare(read_image(data_root / name)), views), views
        except UserError as error:
            failed[name] = str(error)
    if not ready:
        return
    features, views = zip(*ready.values(), strict=True)
    yield from zip(ready, stage1.denoise(features, views, list(ready), on_step), strict=True)


def _write(pairs: FeaturePairs, name: str, result: dict[str, np.ndarray]) -> None:
    """Store what is missing of an image."""
    if not pairs.has_pair(name):
        pairs.write(name, result['raw'], result['F'])
    if pairs.with_components and not pairs.has_components(name):
        pairs.write_components(name, {key: result[key] for key in COMPONENT_KEYS if key in result})
