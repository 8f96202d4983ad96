"""Denoising a list of images: which are left, whether the disk holds them, and going on when one fails."""

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor

from reprefine.engine.errors import UserError
from reprefine.engine.files import complete_file

from .data import read_image
from .files import FeaturePairs
from .fit import OnStep, Terms
from .functional import grid_size
from .stage1 import Stage1

IMAGES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp')
PUBLISHED_PREFIX = 'data/VOCdevkit/'


def read_names(data_root: Path, list_file: Path | None) -> list[str]:
    """Return the images to denoise, relative to ``data_root``.

    Args:
        data_root: Folder of the images.
        list_file: One path a line; the prefix ``data/VOCdevkit/`` of the published list is taken off where it does not
            belong. None lists all images below the root.

    Raises:
        UserError: If nothing is listed, or root or list do not exist.
    """
    if not data_root.is_dir():
        raise UserError(f'data root {data_root} does not exist')
    if list_file is None:
        files = (file for file in sorted(data_root.rglob('*')) if file.suffix.lower() in IMAGES)
        names = [file.relative_to(data_root).as_posix() for file in files]
    elif list_file.is_file():
        lines = (line.strip() for line in list_file.read_text().splitlines())
        names = [_below(data_root, line) for line in lines if line and not line.startswith('#')]
    else:
        raise UserError(f'list {list_file} does not exist; tools/dataset_tools/voc_image_list.py writes one')
    if not names:
        raise UserError(f'{list_file or data_root} lists no image')
    return names


def _below(data_root: Path, line: str) -> str:
    if line.startswith(PUBLISHED_PREFIX) and not (data_root / line).exists():
        return line.removeprefix(PUBLISHED_PREFIX)
    return line


def shard(names: Sequence[str], index: int, count: int) -> list[str]:
    """Return the part of one machine (1 of n, 2 of n, ...), and of it that of this process of torchrun.

    Raises:
        UserError: If ``index`` is not in 1..``count``.
    """
    if not 1 <= index <= count:
        raise UserError(f'--shard {index}/{count}: count from 1/{count} to {count}/{count}')
    rank, world = int(os.environ.get('RANK', 0)), int(os.environ.get('WORLD_SIZE', 1))
    return list(names[index - 1 :: count])[rank::world]


def needed_bytes(stage1: Stage1, images: int) -> int:
    """Return the size of the pairs of so many images; this runs the network once."""
    rows, columns = grid_size(stage1.config.image_size, stage1.patch_size, stage1.stride)
    number = np.dtype(stage1.config.storage_dtype).itemsize
    return 2 * images * rows * columns * stage1.channels() * number


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


def denoise_all(
    stage1: Stage1, pairs: FeaturePairs, data_root: Path, components: bool = False
) -> tuple[int, dict[str, str]]:
    """Denoise the images of ``pairs`` that are not there yet; one that fails is skipped.

    Args:
        stage1: Network and solver.
        pairs: The images and where their features go.
        data_root: Folder of the images.
        components: Store ``G`` and ``Delta`` too, as ``components/<model>/<image>.npz``.

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
                    pairs.write(name, result['raw'].numpy(), result['F'].numpy())
                    if components:
                        _write_components(pairs, name, result)
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


def _write_components(pairs: FeaturePairs, name: str, result: dict[str, Tensor | None]) -> None:
    parts = {key: result[key].numpy().astype(pairs.dtype) for key in ('G', 'Delta') if result[key] is not None}
    file = pairs.root / 'components' / pairs.model_id / f'{name}.npz'
    with complete_file(file) as partial:
        np.savez(partial, **parts)
