"""Stored pairs of features, to train on in tests."""

from pathlib import Path
from typing import Any

import numpy as np

from reprefine.methods.dvt import FeaturePairs

MODEL = 'vit_base_patch14_dinov2.lvd142m'


def write_pairs(
    folder: Path,
    count: int = 6,
    grid: tuple[int, int] = (3, 4),
    channels: int = 64,
    model_id: str = MODEL,
    **meta: Any,
) -> FeaturePairs:
    """Write pairs named ``VOC2012/<number>.jpg`` whose raw features are the denoised ones plus a fixed pattern."""
    rng = np.random.default_rng(0)
    pattern = rng.normal(size=(*grid, channels))
    pairs = FeaturePairs(folder, model_id, [])
    pairs.write_meta(dict(model_id=model_id, stride=14, input_size=[42, 56]) | meta)
    for number in range(count):
        denoised = rng.normal(size=(*grid, channels))
        pairs.write(f'VOC2012/{number}.jpg', denoised + pattern, denoised)
    return FeaturePairs(folder, model_id)
