"""Input batches for cost measurements: from a data loader, or random images."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.structures import BaseDataElement, InstanceData

from reprefine.engine.config_check.walk import find_values
from reprefine.engine.errors import UserError
from reprefine.engine.runner import Runner

DEFAULT_SHAPE = (224, 224)


@dataclass(frozen=True)
class InputBatch:
    """A batch of a data loader, before preprocessing.

    Attributes:
        data: Argument of ``model.data_preprocessor``.
        size: Number of images.
        source: Its origin, for the report.
    """

    data: Any
    size: int
    source: str


def loader_batch(cfg: Config, phase: str = 'train', batch_size: int | None = None) -> InputBatch:
    """Return the first batch of a config's data loader, read in this process.

    Args:
        cfg: Complete config.
        phase: ``train``, ``val`` or ``test``.
        batch_size: Images per batch, default the loader's own.

    Raises:
        UserError: The config has no such loader, or the loader yields nothing.
    """
    key = f'{phase}_dataloader'
    if not cfg.get(key):
        raise UserError(f'{cfg.filename} has no {key}')
    loader_cfg = dict(cfg[key], num_workers=0, persistent_workers=False)
    loader_cfg.pop('prefetch_factor', None)
    if cfg.get('default_scope') == 'mmpretrain':
        loader_cfg.setdefault('collate_fn', dict(type='default_collate'))
    if batch_size is not None:
        loader_cfg['batch_size'] = batch_size
    loader = Runner.build_dataloader(loader_cfg, seed=0)
    data = next(iter(loader), None)
    if data is None:
        raise UserError(f'{key} yields no batch: its dataset has {len(loader.dataset)} images; lower --batch-size')
    images = data['inputs'] if isinstance(data, dict) else data[0]
    # Self-supervised models get a list of views, each a whole batch [B, C, H, W].
    several_views = isinstance(images, (list, tuple)) and torch.is_tensor(images[0]) and images[0].dim() == 4
    return InputBatch(data, len(images[0] if several_views else images), f'first batch of {key}')


def random_batch(cfg: Config, shape: tuple[int, int] | None = None, batch_size: int = 1) -> InputBatch:
    """Make a batch of random 8-bit images.

    Args:
        cfg: Complete config. For mmdet and mmpose models, data samples are added.
        shape: Height and width in pixels, default :func:`default_shape`.
        batch_size: Number of images.
    """
    height, width = shape or default_shape(cfg)
    generator = torch.Generator().manual_seed(0)
    size = (batch_size, 3, height, width)
    images = torch.randint(0, 256, size, generator=generator, dtype=torch.uint8)
    data: dict = {'inputs': list(images)}
    if cfg.get('default_scope') in ('mmdet', 'mmpose'):
        data['data_samples'] = [_data_sample(cfg, height, width) for _ in range(batch_size)]
    return InputBatch(data, batch_size, f'random images of {height}x{width}')


def _data_sample(cfg: Config, height: int, width: int) -> BaseDataElement:
    """Return the data sample of an image that is its own crop, with which predictions are mapped to the image."""
    size = np.array([width, height], dtype=np.float32)
    keypoints = next(
        (n for key in ('num_keypoints', 'out_channels') for n in find_values(cfg.model, key) if isinstance(n, int)), 0
    )
    sample = BaseDataElement(
        metainfo=dict(
            img_shape=(height, width),
            ori_shape=(height, width),
            pad_shape=(height, width),
            scale_factor=(1.0, 1.0),
            flip=False,
            input_size=(width, height),
            input_center=size / 2,
            input_scale=size,
            flip_indices=list(range(keypoints)),
        )
    )
    sample.gt_instances = InstanceData(bboxes=np.array([[0, 0, width, height]], np.float32), bbox_scores=np.ones(1))
    return sample


def default_shape(cfg: Config) -> tuple[int, int]:
    """Return the input height and width in pixels of a config, 224 if it has none."""
    return declared_shape(cfg) or DEFAULT_SHAPE


def declared_shape(cfg: Config) -> tuple[int, int] | None:
    """Return the input height and width in pixels of a config, None if it has none.

    The first of: ``img_size`` within the model; the last size in the test pipeline; the same in the training pipeline.
    """
    image_sizes = [size for size in find_values(cfg.model, 'img_size') if size]
    if image_sizes:
        return _height_width(image_sizes[0], width_first=False)
    for phase in ('test', 'train'):
        dataset = (cfg.get(f'{phase}_dataloader') or {}).get('dataset', {})
        for transform in reversed(next(find_values(dataset, 'pipeline'), [])):
            for key in ('scale', 'input_size', 'crop_size'):
                if transform.get(key):
                    return _height_width(transform[key], width_first=key != 'crop_size')
    return None


def _height_width(size: int | tuple[int, int], width_first: bool) -> tuple[int, int]:
    if isinstance(size, int):
        return size, size
    height, width = reversed(size) if width_first else size
    return math.ceil(height), math.ceil(width)
