"""Faults of the user's data, told in one line that names the file."""

import os
import re
from codecs import BOM_UTF8
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import DATASETS
from PIL import Image

from reprefine.engine.errors import UserError, one_line

from .label_range import LabelRange
from .nesting import inner_datasets

FILE_KEYS = ('img_path', 'seg_map_path', 'depth_map_path')


class UnreadableSample(UserError):
    """A sample that cannot be read.

    Attributes:
        file: The file that is missing or damaged, or the image whose annotation cannot be loaded.
    """

    def __init__(self, message: str, file: str = ''):
        super().__init__(message)  # alone, as a data loader does when it raises a worker's error again
        self.file = file


class _FileNamingCompose(Compose):
    """A pipeline that, when it fails, looks whether the sample's files are at fault, and refuses foreign labels."""

    def __init__(self, pipeline: Compose, labels: LabelRange | None):
        self.transforms = pipeline.transforms
        self.labels = labels
        self.hides_faults = any(getattr(transform, 'ignore_empty', False) for transform in pipeline.transforms)

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
                    _require_readable(file, error)
                if files and type(transform).__name__.startswith('Load') and not isinstance(error, MemoryError):
                    raise _not_loaded(files[0], transform, error) from error
                raise
            if data is None:
                for file in files if self.hides_faults else ():
                    _require_readable(file, None)
                return None
            if self.labels and type(transform).__name__.startswith('Load'):
                self.labels.check_mask(data)
        return data


def _not_loaded(file: str, transform: Any, error: Exception) -> UnreadableSample:
    reason = f'{type(error).__name__}: {one_line(error)}'
    return UnreadableSample(f'sample {file} cannot be loaded by {type(transform).__name__} ({reason})', file)


def _require_readable(file: str, cause: Exception | None) -> None:
    """Raise an UnreadableSample if ``file`` is no image that can be decoded completely."""
    if not os.path.isfile(file):
        raise UnreadableSample(f'image {file} does not exist', file) from cause
    try:
        with Image.open(file) as image:
            image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UnreadableSample(f'image {file} cannot be read: the file is damaged or no image', file) from error


def name_unreadable_files(dataset: Any) -> None:
    """Let the pipelines of ``dataset``, and of the data sets it wraps, name the file that they cannot read.

    They also refuse labels that are no class of the data set; see :class:`.label_range.LabelRange`.
    """
    if type(getattr(dataset, 'pipeline', None)) is Compose:
        dataset.pipeline = _FileNamingCompose(dataset.pipeline, LabelRange.of(dataset))
    for inner in inner_datasets(dataset):
        name_unreadable_files(inner)


def check_data_folders(cfg: Config, loaders: Sequence[str]) -> None:
    """Refuse a config whose data sets lack their folder, or files and folders in it, before a model is built.

    Args:
        cfg: The config.
        loaders: Names of the data loaders that will be used.

    Raises:
        UserError: With the config path of the data set and everything that is expected and missing, or its annotation
            file, if that begins with a byte-order mark.
    """
    for name in loaders:
        for path, node in nodes(cfg.get(name) or {}, name):
            root = node.get('data_root')
            if not isinstance(root, str) or not root or '://' in root or _downloads(node):
                continue
            folder = Path(root).expanduser()
            if not folder.is_dir():
                raise UserError(
                    f'{path}.data_root: folder {root} does not exist; put the data there or give --data-root'
                )
            if missing := [f'{key} {part}' for key, part in _parts(node) if not (folder / part).exists()]:
                raise UserError(f'{path}: {root} lacks {", ".join(missing)}; unpack the rest there or give --data-root')
            _check_first_name(f'{path}.ann_file', folder / str(node.get('ann_file') or ''))


def _check_first_name(path: str, file: Path) -> None:
    """Refuse an annotation file whose byte-order mark the host libraries would take for a part of the first name."""
    if not file.is_file():
        return
    with open(file, 'rb') as opened:
        if opened.read(len(BOM_UTF8)) == BOM_UTF8:
            raise UserError(f'{path}: {file} begins with a byte-order mark: save it as UTF-8 without one')


def _parts(node: dict) -> Iterator[tuple[str, str]]:
    """Yield the files and folders that a data set of a host joins to its root, and the keys that name them."""
    if str(node.get('type')).startswith('reprefine.'):
        return  # ours say themselves what they lack, and how to make it
    prefix = node.get('data_prefix')
    named = {'ann_file': node.get('ann_file')}
    named |= {f'data_prefix.{key}': value for key, value in prefix.items()} if isinstance(prefix, dict) else {}
    named |= {'data_prefix': prefix} if isinstance(prefix, str) else {}
    yield from ((key, value) for key, value in named.items() if isinstance(value, str) and value)


def nodes(node: Any, path: str) -> Iterator[tuple[str, dict]]:
    """Yield every dict below ``node`` with its config path."""
    if isinstance(node, dict):
        yield path, node
        for key, value in node.items():
            yield from nodes(value, f'{path}.{key}')
    elif isinstance(node, (list, tuple)):
        for index, value in enumerate(node):
            yield from nodes(value, f'{path}.{index}')


def _downloads(node: dict) -> bool:
    """Tell whether the data set fetches its files by itself."""
    if not isinstance(node.get('type'), str):
        return False
    with DATASETS.switch_scope_and_registry(node.get('_scope_')) as registry:
        dataset = registry.get(node['type'])
    return dataset is not None and node.get('download', 'download' in signature(dataset).parameters)


@contextmanager
def one_line_faults() -> Iterator[None]:
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
