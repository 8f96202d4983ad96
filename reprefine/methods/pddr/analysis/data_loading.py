"""Test images, predictions and metrics of a trained model for the analyses."""

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

from .resizing import without_crop


class PreprocessedBatch(NamedTuple):
    """A batch before and after the data preprocessor.

    Attributes:
        images: Preprocessed images ``[N, 3, H, W]``.
        classes: Class of each image ``[N]``, 0 if the dataset has no classes.
        raw_images: The images before preprocessing, 8 bit, RGB or BGR as in the dataset, each ``[3, H, W]``.
    """

    images: Tensor
    classes: Tensor
    raw_images: list[Tensor]


def preprocessed_test_batches(cfg: Config, model: nn.Module) -> Iterator[PreprocessedBatch]:
    """Yield the batches of the test dataloader of a config, preprocessed by the model.

    Raises:
        UserError: If the config has no test dataloader, or files are missing.
    """
    for data in _test_loader(cfg):
        yield preprocess_batch(model, data)


def load_evenly_spaced(cfg: Config, num: int, side: int | None = None) -> dict:
    """Return ``num`` evenly spaced test samples of a config, or all if there are fewer, as one raw batch.

    Images are resized to a square where the config crops them.

    Args:
        cfg: Config with a test dataloader.
        num: Number of samples.
        side: Side of the square in pixels; None: that of the crop in the config.

    Raises:
        UserError: If the config has no test dataloader, files are missing, or images cannot be resized.
    """
    cfg = copy.deepcopy(cfg)
    dataset = cfg.get('test_dataloader', {}).get('dataset', {})
    if 'pipeline' in dataset:
        dataset.pipeline = without_crop(dataset.pipeline, side)
    elif side:
        raise UserError('the test dataset of the config has no pipeline to resize images: use one that is not wrapped')
    loader = _test_loader(cfg)
    return loader.collate_fn([loader.dataset[index] for index in _evenly_spaced(len(loader.dataset), num)])


def evenly_spaced_training_images(cfg: Config, model: nn.Module, num: int) -> Iterator[Tensor]:
    """Yield ``num`` evenly spaced training images of a config, prepared by its test pipeline, ``[1, 3, H, W]`` each.

    One by one, so that no image is padded to the size of another.

    Raises:
        UserError: If the config has no training dataloader, files are missing, or its datasets are wrapped.
    """
    if not cfg.get('train_dataloader'):
        raise UserError('the config has no train_dataloader: add one, or use a config with one')
    check_data_folders(cfg, ['train_dataloader'])
    cfg = copy.deepcopy(cfg)
    train, test = (cfg.get(key, {}).get('dataset', {}) for key in ('train_dataloader', 'test_dataloader'))
    if 'pipeline' not in train or 'pipeline' not in test:
        raise UserError(
            'the training or the test dataset of the config has no pipeline: use datasets that are not wrapped'
        )
    cfg.test_dataloader.dataset = train | dict(pipeline=test.pipeline)
    loader = _test_loader(cfg)
    for index in _evenly_spaced(len(loader.dataset), num):
        yield preprocess_batch(model, loader.collate_fn([loader.dataset[index]])).images


def _evenly_spaced(length: int, num: int) -> list[int]:
    return np.unique(np.linspace(0, length - 1, num).round().astype(int)).tolist()


@torch.no_grad()
def evaluate_model(cfg: Config, model: nn.Module) -> dict[str, float]:
    """Return the numeric metrics of the test evaluator of a config, for a model in evaluation mode.

    Raises:
        UserError: If the config has no test dataloader or evaluator, or files are missing.
    """
    if not cfg.get('test_evaluator'):
        raise UserError('the config has no test_evaluator: add one, or use a config with one')
    loader, evaluator = _test_loader(cfg), Evaluator(copy.deepcopy(cfg.test_evaluator))
    evaluator.dataset_meta = getattr(loader.dataset, 'metainfo', None)
    for data in loader:
        evaluator.process(model.test_step(data), data)
    metrics = evaluator.evaluate(len(loader.dataset))
    return {name: float(value) for name, value in metrics.items() if isinstance(value, (int, float, np.number))}


def preprocess_batch(model: nn.Module, data: dict) -> PreprocessedBatch:
    """Return a raw batch, which is not changed, after the data preprocessor of the model."""
    with torch.no_grad():
        output = model.data_preprocessor(copy.deepcopy(data), False)
    return PreprocessedBatch(output['inputs'], _classes(output['data_samples']), list(data['inputs']))


def _test_loader(cfg: Config) -> DataLoader:
    if not cfg.get('test_dataloader'):
        raise UserError('the config has no test_dataloader: add one, or use a config with one')
    check_data_folders(cfg, ['test_dataloader'])
    return Runner.build_dataloader({**cfg.test_dataloader, 'num_workers': 0, 'persistent_workers': False})


def _classes(samples: list) -> Tensor:
    labels = [getattr(sample, 'gt_label', None) for sample in samples]
    return torch.tensor([0 if label is None else int(label) for label in labels])


def predict_logits(model: nn.Module, images: Tensor) -> Tensor:
    """Return the logits ``[N, classes]`` of a classifier of mmpretrain.

    Raises:
        UserError: If the model is not a classifier.
    """
    logits = model(images, mode='tensor')
    if not torch.is_tensor(logits) or logits.ndim != 2:
        raise UserError(f'{type(model).__name__} returns no logits [N, classes]: attribution maps need a classifier')
    return logits
