"""Stage 1 with the small ViT: features of many views, of which fewer are used, with and without a known pattern."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from mmengine.config import Config
from runner import config_file
from shipped import shipped_file
from torch import Tensor

from reprefine.methods.dvt import Stage1, Stage1Config
from reprefine.methods.dvt.stage1.views import Views
from reprefine.registry import MODELS

VIT = 'dvt_vit'  # shipped checkpoint
DENOISE = 'dvt/demo/vit-p4_denoise_96views'
PATTERNED = 'dvt/demo/vit-p4-patterned_denoise_96views'


def stage1_config(checkpoint: str | None = None, **changes: object) -> Stage1Config:
    """Return the settings of the small ViT with its shipped weights.

    Args:
        checkpoint: Other weights.
        **changes: Settings that differ from those of the config.
    """
    config = Config.fromfile(config_file(DENOISE))
    config.backbone.checkpoint = checkpoint or str(shipped_file(VIT))
    return Stage1Config.from_config(config, **changes)


def known_pattern(scale: float = 1.0) -> Tensor:
    """Return the pattern that the config with the known pattern adds to the features, ``[rows, columns, C]``.

    Args:
        scale: Factor; 0 switches the pattern off.
    """
    backbone = Config.fromfile(config_file(PATTERNED)).backbone.to_dict()
    backbone['backbone'].pop('checkpoint')
    return scale * MODELS.build(backbone).pattern.movedim(0, -1)


@dataclass(frozen=True)
class ImageViews:
    """Raw features of the views of images.

    Attributes:
        features: One tensor an image, ``[V + 1, rows, columns, C]``, the whole image last.
        views: The views of each image.
        seconds: CPU seconds of rendering and extraction, per image.
    """

    features: list[Tensor]
    views: list[Views]
    seconds: float

    def first(self, count: int, pattern: Tensor | None = None) -> 'ImageViews':
        """Return the first ``count`` views and the whole image, with ``pattern`` added to all of them."""
        rows = [*range(count), -1]
        features = [raw[rows] if pattern is None else raw[rows] + pattern for raw in self.features]
        views = [Views(view.boxes[rows], view.coords[rows]) for view in self.views]
        share = (count + 1) / len(self.features[0])
        return ImageViews(features, views, self.seconds * share)


def extract_views(stage1: Stage1, images: Sequence[np.ndarray], names: Sequence[str]) -> ImageViews:
    """Extract the raw features of all views of images."""
    start = time.process_time()
    features, views = zip(
        *(stage1.extract(image, name) for image, name in zip(images, names, strict=True)), strict=True
    )
    return ImageViews(list(features), list(views), (time.process_time() - start) / len(images))


def denoise_views(stage1: Stage1, data: ImageViews, names: Sequence[str]) -> tuple[Tensor, float]:
    """Decompose the features of images.

    Returns:
        ``F`` at the tokens of the whole images, ``[N, rows, columns, C]``, and the CPU seconds per image, without those
        of equations that all images share.
    """
    semantics, seconds = [], []
    for number, (features, views, name) in enumerate(zip(data.features, data.views, names, strict=True)):
        if not number and stage1.config.solver == 'closed-form':  # factorises the equations
            stage1.denoise([features], [views], [name])
        start = time.process_time()
        semantics.append(stage1.denoise([features], [views], [name])[0]['F'])
        seconds.append(time.process_time() - start)
    return torch.stack(semantics), sum(seconds) / len(seconds)


def whole_features(stage1: Stage1, images: Sequence[np.ndarray], batch_size: int = 32) -> Tensor:
    """Return the raw features of whole images, ``[N, rows, columns, C]``."""
    extractor = stage1.extractor
    batches = []
    with torch.no_grad():
        for first in range(0, len(images), batch_size):
            batch = torch.stack([extractor.prepare(image) for image in images[first : first + batch_size]])
            batches.append(extractor.backbone(batch)[-1].movedim(1, -1))
    return torch.cat(batches)
