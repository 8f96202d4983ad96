"""Stage 1 over a list of images: disk space, progress, and images that fail."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor

from reprefine.engine.data_checks.images import read_image
from reprefine.engine.errors import UserError

from ..functional import grid_size
from .pipeline import Stage1
from .solvers.solver import OnStep, Terms
from .storage import FeaturePairs

COMPONENT_KEYS = ('G', 'Delta', 'subtracted')


def needed_bytes(stage1: Stage1, pairs: FeaturePairs) -> int:
    """Return the size of the files that are still to be written; this runs the backbone once."""
    extractor, cfg = stage1.extractor, stage1.config
    rows, columns = grid_size(cfg.image_size, extractor.patch_size, extractor.stride)
    components = 3 if cfg.solver == 'field' or cfg.closed_form_config.residual else 2
    arrays = sum(len(pairs.kinds) * (not pairs.has_pair(name)) for name in pairs.names)
    if pairs.with_components:
        arrays += components * sum(not pairs.has_components(name) for name in pairs.names)
    return arrays * rows * columns * extractor.channels() * pairs.dtype.itemsize


def check_disk(folder: Path, needed: int) -> str:
    """Return a line about the needed and the free disk space.

    Args:
        folder: Folder to write to; it need not exist.
        needed: Bytes to write.

    Raises:
        UserError: If there is less free than needed.
    """
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    line = f'{needed / 2**30:.2f} GiB to write below {folder}, {free / 2**30:.1f} GiB free'
    if needed > free:
        raise UserError(f'{line}; free some, store float16, or denoise fewer images')
    return line


def denoise_all(stage1: Stage1, pairs: FeaturePairs, data_root: Path) -> tuple[int, dict[str, str]]:
    """Denoise the images of ``pairs`` that are not complete yet; images that fail are skipped.

    Args:
        stage1: The pipeline.
        pairs: Images and storage of their features.
        data_root: Folder of the images.

    Returns:
        Number of denoised images, and the error message of each image that failed.
    """
    pending = [name for name in pairs.names if not pairs.is_complete(name)]
    failed: dict[str, str] = {}
    columns = (TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn()) as progress:
        images = progress.add_task('images', total=len(pending))
        steps = progress.add_task('steps', total=stage1.config.fit_config.iterations, visible=False)

        def on_step(step: int, terms: Terms) -> None:
            if step % 50 == 0:  # reading a loss synchronises with the device
                text = ', '.join(f'{name} {float(term.mean()):.4f}' for name, term in terms.items())
                progress.update(steps, completed=step + 1, description=text, visible=True)

        size = stage1.config.images_at_once
        for names in (pending[first : first + size] for first in range(0, len(pending), size)):
            progress.update(images, description=Path(names[0]).name)
            for name, result in _denoise(stage1, data_root, names, failed, on_step):
                try:
                    _write(pairs, name, {key: array.numpy() for key, array in result.items() if array is not None})
                except UserError as error:
                    failed[name] = str(error)
            progress.update(images, advance=len(names))
            if not progress.console.is_terminal:  # a log file shows no progress bar
                task = progress.tasks[0]
                progress.console.print(
                    f'{int(task.completed)}/{len(pending)} images, ETA {task.time_remaining or 0:.0f} s'
                )
    return len(pending) - len(failed), failed


def _denoise(
    stage1: Stage1, data_root: Path, names: Sequence[str], failed: dict[str, str], on_step: OnStep
) -> Iterator[tuple[str, dict[str, Tensor | None]]]:
    """Yield the results of images that are solved together; add to ``failed`` those that cannot be used."""
    extracted = {}
    for name in names:
        try:
            extracted[name] = stage1.extract(read_image(data_root / name), name)
        except UserError as error:
            failed[name] = str(error)
    if not extracted:
        return
    features, views = zip(*extracted.values(), strict=True)
    yield from zip(extracted, stage1.denoise(features, views, list(extracted), on_step), strict=True)


def _write(pairs: FeaturePairs, name: str, result: dict[str, np.ndarray]) -> None:
    """Store the files that an image lacks."""
    if not pairs.has_pair(name):
        pairs.write(name, result['raw'], result['F'])
    if pairs.with_components and not pairs.has_components(name):
        pairs.write_components(name, {key: result[key] for key in COMPONENT_KEYS if key in result})
