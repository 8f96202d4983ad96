"""Reading every sample of a config's data sets once, with its labels."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from mmengine.config import Config
from mmengine.dataset import BaseDataset, Compose
from mmengine.registry import DATASETS
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from reprefine.engine.cli.launch import DATALOADERS
from reprefine.engine.errors import UserError, one_line

from .class_names import check_class_names, check_same_numbers
from .label_range import LabelRange
from .nesting import class_names


@dataclass(frozen=True)
class Fault:
    """A sample that cannot be read.

    Attributes:
        index: Position in its data set.
        files: The files it is read from, as far as the data set names them.
        reason: What failed, in one line.
    """

    index: int
    files: tuple[str, ...]
    reason: str


class Reading(NamedTuple):
    """What reading a sample gave.

    Attributes:
        fault: What is wrong with it, None if it is sound.
        labels: The classes of its image, of its objects and of its mask by their numbers, and how often each stands
            there; in a mask once.
    """

    fault: Fault | None
    labels: dict[int, int]


class Readings(Dataset):
    """The reading of each sample of a data set.

    A sample is read by the ``Load…`` transforms of the pipeline, and all image files that it names are decoded to
    their last byte. A box that is not finite is a fault too, as is a label that is no class of the data set. Data sets
    without a pipeline are read as they are.

    Args:
        dataset: A data set without wrappers.
    """

    def __init__(self, dataset: BaseDataset):
        self.dataset = dataset
        self.loading = Compose([])
        transforms = getattr(getattr(dataset, 'pipeline', None), 'transforms', ())
        self.loading.transforms = [t for t in transforms if type(t).__name__.startswith('Load')]
        self.range = LabelRange.of(dataset)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Reading:
        files: tuple[str, ...] = ()
        try:
            if not hasattr(self.dataset, 'get_data_info'):
                self.dataset[index]
                return Reading(None, {})
            info = self.dataset.get_data_info(index)
            files = tuple(value for key, value in info.items() if key.endswith('_path') and isinstance(value, str))
            return Reading(None, dict(self._read(info, files)))
        except Exception as error:  # whatever a decoder raises is the finding
            kind = '' if isinstance(error, UserError) else f'{type(error).__name__}: '
            return Reading(Fault(index, files, kind + one_line(error)), {})

    def _read(self, info: dict[str, Any], files: Sequence[str]) -> Counter[int]:
        """Read a sample to its last byte and return its labels."""
        for file in files:
            _decode(file)
        for instance in info.get('instances') or ():
            if 'bbox' in instance and not np.isfinite(instance['bbox']).all():
                raise ValueError(f'a box is not finite: {instance["bbox"]}')
        objects = [instance['bbox_label'] for instance in info.get('instances') or () if 'bbox_label' in instance]
        labels = Counter(np.atleast_1d(info.get('gt_label', ())).tolist() + objects)
        if self.range:
            self.range.check_labels(info.get('img_path', ''), labels)
        sample = self.loading(info)
        if sample is None:
            raise ValueError('the pipeline returns no sample')
        if self.range:
            self.range.check_mask(sample)
            labels.update(self.range.classes_of_mask(sample))
        return labels


def _decode(file: str) -> None:
    try:
        with Image.open(file) as image:
            image.load()
    except Image.UnidentifiedImageError:
        if file.endswith(('.npy', '.npz', '.tif', '.tiff', '.txt', '.xml', '.json')):
            return  # no picture; the pipeline reads it
        raise


def plain_datasets(cfg: Config) -> Iterator[tuple[str, BaseDataset]]:
    """Build every data set of the config's loaders, each once and without its wrappers, and yield where it stands.

    Raises:
        UserError: If class names do not fit the annotations, or mean other numbers than in training.
    """
    seen: list[Any] = []
    train = None
    for name in DATALOADERS:
        config = (cfg.get(name) or {}).get('dataset')
        if config is None or config in seen:
            continue
        seen.append(config)
        dataset = DATASETS.build(config)
        check_class_names(dataset)
        train = dataset if name == 'train_dataloader' else train
        if train is not None:
            check_same_numbers(train, dataset)
        yield from _leaves(dataset, f'{name}.dataset')


def _leaves(dataset: Any, place: str) -> Iterator[tuple[str, BaseDataset]]:
    if hasattr(dataset, 'datasets'):
        for index, inner in enumerate(dataset.datasets):
            yield from _leaves(inner, f'{place}.datasets.{index}')
    elif hasattr(dataset, 'dataset'):
        yield from _leaves(dataset.dataset, f'{place}.dataset')
    else:
        yield place, dataset


def readings(dataset: BaseDataset, workers: int) -> Iterator[Reading]:
    """Read every sample of ``dataset`` once, in order."""
    return iter(DataLoader(Readings(dataset), batch_size=None, num_workers=workers))


def count_line(dataset: BaseDataset, labels: Counter[int]) -> str:
    """Return in one line how often each class of ``dataset`` was found, or each label if it names no classes."""
    names = class_names(dataset)
    known = {label: count for label, count in labels.items() if label >= 0}  # -1: without a label
    if not names:
        return f'{len(known)} labels, {min(known.values())} to {max(known.values())} of each' if known else 'no labels'
    counts = ', '.join(f'{name} {known.get(number, 0):,}' for number, name in enumerate(names))
    return f'{len(known)} of {len(names)} classes found: {counts}'
