"""Errors of data files in one line with the name of the file: the pipeline that finds the file, and the exception."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from mmengine.dataset import Compose
from PIL import Image

from reprefine.engine.errors import UserError, one_line

from .label_range import LabelRange
from .wrappers import wrapped_datasets

FILE_KEYS = ('img_path', 'seg_map_path', 'depth_map_path')


class UnreadableSample(UserError):
    """A sample that cannot be read.

    Attributes:
        file: The file that is missing or corrupted, or the image whose annotation cannot be loaded.
    """

    def __init__(self, message: str, file: str = ''):
        super().__init__(message)  # alone, as a data loader does when it raises a worker's error again
        self.file = file


class _CheckedCompose(Compose):
    """A pipeline that, if it fails, tests the files of the sample, and that refuses labels outside of the classes."""

    def __init__(self, pipeline: Compose, labels: LabelRange | None):
        self.transforms = pipeline.transforms
        self.labels = labels
        self.ignores_errors = any(getattr(transform, 'ignore_empty', False) for transform in pipeline.transforms)

    def __call__(self, data: dict) -> dict | None:
        files = [data[key] for key in FILE_KEYS if isinstance(data.get(key), str)]
        if self.labels:
            self.labels.check_labels(data.get('img_path', ''), np.atleast_1d(data.get('gt_label', ())).tolist())
        for transform in self.transforms:
            try:
                data = transform(data)
            except UserError:
                raise
            except Exception as error:
                for file in files:
                    _check_image(file, error)
                if files and type(transform).__name__.startswith('Load') and not isinstance(error, MemoryError):
                    reason = f'{type(error).__name__}: {one_line(error)}'
                    raise UnreadableSample(
                        f'sample {files[0]} cannot be loaded by {type(transform).__name__} ({reason})', files[0]
                    ) from error
                raise
            if data is None:
                for file in files if self.ignores_errors else ():
                    _check_image(file, None)
                return None
            if self.labels and type(transform).__name__.startswith('Load'):
                self.labels.check_mask(data)
        return data


def _check_image(file: str, cause: Exception | None) -> None:
    """Raise an :class:`UnreadableSample` if ``file`` is not an image that decodes completely."""
    if not os.path.isfile(file):
        raise UnreadableSample(f'image {file} does not exist', file) from cause
    try:
        with Image.open(file) as image:
            image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UnreadableSample(f'image {file} cannot be read: the file is damaged or no image', file) from error


def name_unreadable_files(dataset: Any) -> None:
    """Make the pipelines of ``dataset``, and of the datasets it wraps, name the file that they cannot read.

    They also refuse labels outside of the classes, see :class:`.label_range.LabelRange`.
    """
    if type(getattr(dataset, 'pipeline', None)) is Compose:
        dataset.pipeline = _CheckedCompose(dataset.pipeline, LabelRange.from_dataset(dataset))
    for inner in wrapped_datasets(dataset).values():
        name_unreadable_files(inner)


@contextmanager
def data_errors_as_user_error() -> Iterator[None]:
    """Turn missing and unreadable files, also those met by a worker of a data loader, into a :class:`UserError`."""
    try:
        yield
    except (UserError, FileNotFoundError, NotADirectoryError, PermissionError) as error:
        # A worker's error arrives as the text of its traceback, whose last line is the message.
        last_line = str(error).strip().splitlines()[-1]
        raise UserError(re.sub(r'^reprefine(\.\w+)+: ', '', last_line)) from error
    except ValueError as error:
        if 'Expected more than 1 value per channel' not in str(error):
            raise
        raise UserError(
            'train_dataloader.batch_size: BatchNorm cannot train on a single value per channel, which a batch of one '
            'sample leaves: raise it, or set drop_last=True if only the last batch is that small'
        ) from error
