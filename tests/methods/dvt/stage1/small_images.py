"""Small images, a config of stage 1 for them, and its tool."""

from pathlib import Path

import cv2
import numpy as np
import torch

from reprefine.methods.dvt import FeaturePairs
from tests.helpers.run_tool import run_tool

CONFIG = """
backbone = dict(type='reprefine.TimmViT', model_name='vit_tiny_patch16_224', img_size=32, stride={stride},
                model_args=dict(depth=2, embed_dim=48, num_heads=3))
native = dict(size=(32, 48), mean=[120.0] * 3, std=[60.0] * 3)
stage1 = dict(num_views=6, profile='cpu', solver='closed-form', storage_dtype='float32',
              field=dict(iterations=8, batch_tokens=32, encoding=dict(n_levels=2, max_resolution=20)))
custom_imports = dict(imports=['reprefine'])
"""


NAMES = [f'a/{index}.png' for index in range(5)]


def write_images(folder: Path) -> None:
    """Write ``config.py`` and the images :data:`NAMES` below ``images``."""
    rng = np.random.default_rng(0)
    for name in NAMES:
        file = folder / 'images' / name
        file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(file), cv2.resize(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8), (70, 50)))
    (folder / 'config.py').write_text(CONFIG.format(stride=None))


def denoise(root: Path, *arguments: object, out: str = 'out', solver: str = 'closed-form') -> int:
    """Run ``tools/denoise_images.py`` on the images below ``root``; return the exit code."""
    torch.manual_seed(0)  # the network's weights are random
    options = ['--data-root', root / 'images', '--out', root / out, '--solver', solver, '--device', 'cpu']
    return run_tool('denoise_images.py', root / 'config.py', *options, *arguments)


def pairs(root: Path, out: str = 'out') -> FeaturePairs:
    """Return the features that :func:`denoise` has stored."""
    return FeaturePairs(root / out, 'vit_tiny_patch16_224')
