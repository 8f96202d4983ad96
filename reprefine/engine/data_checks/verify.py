"""Reading every sample of a config's datasets once, with its labels."""

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
from .wrappers import class_names, named_leaf_datasets

# Files of samples that are not images; the pipeline reads them.
OTHER_FILES = ('.npy', '.npz', '.tif', '.tiff', '.txt', '.xml', '.json')


@dataclass(frozen=True)
class SampleError:
    """A sample that cannot be read.

    Attributes:
        index: Position in its dataset.
        files: The files it is read from, as far as the dataset names them.
        reason: What failed, in one line.
    """

    index: int
    files: tuple[str, ...]
    reason: str


class VerifiedSample(NamedTuple):
    """Result of reading a sample.

    Attributes:
        error: Why it cannot be read, None if it can.
        labels: The class numbers of its image, of its objects and of its mask, and how often each occurs; in a mask
            once.
    """

    error: SampleError | None
    labels: dict[int, int]


class _Verification(Dataset):
    """Dataset of the :class:`VerifiedSample` of each sample of a dataset.

    A sample is read by the ``Load…`` transforms of the pipeline, and all image files that it names are decoded
    completely. A box that is not finite is an error too, as is a label that is no class of the dataset. Datasets
    without a pipeline are read as they are.

    Args:
        dataset: A dataset without wrappers.
    """

    def __init__(self, dataset: BaseDataset):
        self.dataset = dataset
        self.loading = Compose([])
        transforms = getattr(getattr(dataset, 'pipeline', None), 'transforms', ())
        self.loading.transforms = [t for t in transforms if type(t).__name__.startswith('Load')]
        self.label_range = LabelRange.from_dataset(dataset)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> VerifiedSample:
        files: tuple[str, ...] = ()
        try:
            if not hasattr(self.dataset, 'get_data_info'):
                self.dataset[index]
                return VerifiedSample(None, {})
            info = self.dataset.get_data_info(index)
            files = tuple(value for key, value in info.items() if key.endswith('_path') and isinstance(value, str))
            return VerifiedSample(None, dict(self._read(info, files)))
        except Exception as error:  # decoders raise any type
            kind = '' if isinstance(error, UserError) else f'{type(error).__name__}: '
            return VerifiedSample(SampleError(index, files, kind + one_line(error)), {})

    def _read(self, info: dict[str, Any], files: Sequence[str]) -> Counter[int]:
        """Read a sample completely and return its labels."""
        for file in files:
            _decode(file)
        instances = info.get('instances') or ()
        for instance in instances:
            if 'bbox' in instance and not np.isfinite(instance['bbox']).all():
                raise ValueError(f'a box is not finite: {instance["bbox"]}')
        objects = [instance['bbox_label'] for instance in instances if 'bbox_label' in instance]
        labels = Counter(np.atleast_1d(info.get('gt_label', ())).tolist() + objects)
        if self.label_range:
            self.label_range.check_labels(info.get('img_path', ''), labels)
        sample = self.loading(info)
        if sample is None:
            raise ValueError('the pipeline returns no sample')
        if self.label_range:
            self.label_range.check_mask(sample)
            labels.update(self.label_range.mask_classes(sample))
        return labels


def _decode(file: str) -> None:
    try:
        with Image.open(file) as image:
            image.load()
    except Image.UnidentifiedImageError:
        if not file.endswith(OTHER_FILES):
            raise


def build_datasets(cfg: Config) -> Iterator[tuple[str, BaseDataset]]:
    """Build every dataset of the config's loaders, each once and without its wrappers, and yield its config path.

    Raises:
        UserError: If class names are not those of the annotations, or mean other numbers than in training.
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
        yield from named_leaf_datasets(dataset, f'{name}.dataset')


def verify_samples(dataset: BaseDataset, workers: int) -> Iterator[VerifiedSample]:
    """Read every sample of ``dataset`` once, in order.

    Args:
        dataset: A dataset without wrappers.
        workers: Number of processes that read.
    """
    return iter(DataLoader(_Verification(dataset), batch_size=None, num_workers=workers))


def format_class_counts(dataset: BaseDataset, labels: Counter[int]) -> str:
    """Return in one line how often each class of ``dataset`` occurs, or each label if it names no classes."""
    names = class_names(dataset)
    known = {label: count for label, count in labels.items() if label >= 0}  # -1: without a label
    if not names:
        return f'{len(known)} labels, {min(known.values())} to {max(known.values())} of each' if known else 'no labels'
    counts = ', '.join(f'{name} {known.get(number, 0):,}' for number, name in enumerate(names))
    return f'{len(known)} of {len(names)} classes found: {counts}'
