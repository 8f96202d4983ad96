"""A trained model and its test images, as the analyses need them."""

import copy
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from torch import Tensor, nn
from torch.utils.data import DataLoader

from reprefine.engine.data_checks.data_root import check_data_folders
from reprefine.engine.errors import UserError
from reprefine.engine.runner import Runner

from .resizing import uncropped


class Batch(NamedTuple):
    """Images ready for the model.

    Attributes:
        images: (N, 3, H, W).
        classes: Class of each image (N,), 0 where images have none.
        pictures: The images before preprocessing, 8 bit, RGB or BGR as the data set gives them, each (3, H, W).
    """

    images: Tensor
    classes: Tensor
    pictures: list[Tensor]


def batches_of(cfg: Config, model: nn.Module) -> Iterator[Batch]:
    """Yield the test images of a config, preprocessed by the model.

    Raises:
        UserError: If the config has no test data, or their files are missing.
    """
    for data in _test_loader(cfg):
        yield batch_for(model, data)


def spread(cfg: Config, num: int, side: int | None = None) -> dict:
    """Return ``num`` test samples of a config at equal distances, or all if there are fewer, as one raw batch.

    Only these are read. Images are resized as a whole where the config crops them.

    Args:
        cfg: Config with test data.
        num: Number of samples.
        side: Side of the square that they are resized to, in pixels; default that of the config's crop.

    Raises:
        UserError: If the config has no test data, their files are missing, or its images cannot be resized.
    """
    cfg = copy.deepcopy(cfg)
    dataset = cfg.get('test_dataloader', {}).get('dataset', {})
    if 'pipeline' in dataset:
        dataset.pipeline = uncropped(dataset.pipeline, side)
    elif side:
        raise UserError('the test dataset of the config has no pipeline in which images could be resized')
    loader = _test_loader(cfg)
    return loader.collate_fn([loader.dataset[index] for index in _equal_distances(len(loader.dataset), num)])


def training_images(cfg: Config, model: nn.Module, num: int) -> Iterator[Tensor]:
    """Yield ``num`` training images of a config at equal distances, as its tests would prepare them, (1, 3, H, W).

    One by one, so that no image is padded to the size of another.

    Raises:
        UserError: If the config has no training data, their files are missing, or its datasets are wrapped.
    """
    if not cfg.get('train_dataloader'):
        raise UserError('the config has no train_dataloader')
    check_data_folders(cfg, ['train_dataloader'])
    cfg = copy.deepcopy(cfg)
    train, test = (cfg.get(key, {}).get('dataset', {}) for key in ('train_dataloader', 'test_dataloader'))
    if 'pipeline' not in train or 'pipeline' not in test:
        raise UserError('the training or the test dataset of the config has no pipeline of its own to prepare images')
    cfg.test_dataloader.dataset = train | dict(pipeline=test.pipeline)
    loader = _test_loader(cfg)
    for index in _equal_distances(len(loader.dataset), num):
        yield batch_for(model, loader.collate_fn([loader.dataset[index]])).images


def _equal_distances(length: int, num: int) -> list[int]:
    return np.unique(np.linspace(0, length - 1, num).round().astype(int)).tolist()


@torch.no_grad()
def evaluate(cfg: Config, model: nn.Module) -> dict[str, float]:
    """Return the metrics of the config's test evaluator, those that are numbers, for a model in evaluation mode.

    Raises:
        UserError: If the config has no test data or evaluator, or files are missing.
    """
    if not cfg.get('test_evaluator'):
        raise UserError('the config has no test_evaluator')
    loader, evaluator = _test_loader(cfg), Evaluator(copy.deepcopy(cfg.test_evaluator))
    evaluator.dataset_meta = getattr(loader.dataset, 'metainfo', None)
    for data in loader:
        evaluator.process(model.test_step(data), data)
    metrics = evaluator.evaluate(len(loader.dataset))
    return {name: float(value) for name, value in metrics.items() if isinstance(value, (int, float, np.number))}


def batch_for(model: nn.Module, data: dict) -> Batch:
    """Return a raw batch, which stays as it is, as the model takes it."""
    with torch.no_grad():
        ready = model.data_preprocessor(copy.deepcopy(data), False)
    return Batch(ready['inputs'], _classes(ready['data_samples']), list(data['inputs']))


def _test_loader(cfg: Config) -> DataLoader:
    if not cfg.get('test_dataloader'):
        raise UserError('the config has no test_dataloader')
    check_data_folders(cfg, ['test_dataloader'])
    return Runner.build_dataloader({**cfg.test_dataloader, 'num_workers': 0, 'persistent_workers': False})


def _classes(samples: list) -> Tensor:
    labels = [getattr(sample, 'gt_label', None) for sample in samples]
    return torch.tensor([0 if label is None else int(label) for label in labels])


def classify(model: nn.Module, images: Tensor) -> Tensor:
    """Return the logits (N, classes) of a classifier of mmpretrain.

    Raises:
        UserError: If the model is another.
    """
    logits = model(images, mode='tensor')
    if not torch.is_tensor(logits) or logits.ndim != 2:
        raise UserError(f'{type(model).__name__} gives no logits of classes: a map needs a classifier')
    return logits
