"""Reading every sample of a config's data sets once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.dataset import BaseDataset, Compose
from mmengine.registry import DATASETS
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from ..errors import one_line
from ..launch import DATALOADERS


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


class Readings(Dataset):
    """The faults of each sample of a data set; None for a sound one.

    A sample is read by the ``Load…`` transforms of the pipeline, and all image files that it names are decoded to
    their last byte. A box that is not finite is a
    fault too: detectors train on it silently. Data sets without a pipeline are read as they are.

    Args:
        dataset: A data set without wrappers.
    """

    def __init__(self, dataset: BaseDataset):
        self.dataset = dataset
        self.loading = Compose([])
        transforms = getattr(getattr(dataset, 'pipeline', None), 'transforms', ())
        self.loading.transforms = [t for t in transforms if type(t).__name__.startswith('Load')]

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Fault | None:
        files: tuple[str, ...] = ()
        try:
            if not hasattr(self.dataset, 'get_data_info'):
                self.dataset[index]
                return None
            info = self.dataset.get_data_info(index)
            files = tuple(value for key, value in info.items() if key.endswith('_path') and isinstance(value, str))
            _read(info, files, self.loading)
        except Exception as error:  # whatever a decoder raises is the finding
            return Fault(index, files, f'{type(error).__name__}: {one_line(error)}')
        return None


def _read(info: dict[str, Any], files: Sequence[str], loading: Compose) -> None:
    for file in files:
        _decode(file)
    for instance in info.get('instances') or ():
        if 'bbox' in instance and not np.isfinite(instance['bbox']).all():
            raise ValueError(f'a box is not finite: {instance["bbox"]}')
    if loading(info) is None:
        raise ValueError('the pipeline returns no sample')


def _decode(file: str) -> None:
    try:
        with Image.open(file) as image:
            image.load()
    except Image.UnidentifiedImageError:
        if file.endswith(('.npy', '.npz', '.tif', '.tiff', '.txt', '.xml', '.json')):
            return  # no picture; the pipeline reads it
        raise


def plain_datasets(cfg: Config) -> Iterator[tuple[str, BaseDataset]]:
    """Build every data set of the config's loaders, each once and without its wrappers, and yield where it stands."""
    seen: list[Any] = []
    for name in DATALOADERS:
        dataset = (cfg.get(name) or {}).get('dataset')
        if dataset is None or dataset in seen:
            continue
        seen.append(dataset)
        yield from _leaves(DATASETS.build(dataset), f'{name}.dataset')


def _leaves(dataset: Any, place: str) -> Iterator[tuple[str, BaseDataset]]:
    if hasattr(dataset, 'datasets'):
        for index, inner in enumerate(dataset.datasets):
            yield from _leaves(inner, f'{place}.datasets.{index}')
    elif hasattr(dataset, 'dataset'):
        yield from _leaves(dataset.dataset, f'{place}.dataset')
    else:
        yield place, dataset


def faults(dataset: BaseDataset, workers: int) -> Iterator[Fault | None]:
    """Read every sample of ``dataset`` once, in order, and yield its fault or None."""
    return iter(DataLoader(Readings(dataset), batch_size=None, num_workers=workers))
