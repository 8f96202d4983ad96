"""A diffusion teacher of a few channels, for tests."""

import atexit
import shutil
import tempfile
from functools import cache
from typing import Any

import torch

from reprefine.methods.repfusion import DiffusionTeacher

UNET: dict[str, Any] = dict(
    kind='UNet2DModel',
    sample_size=16,
    block_out_channels=(8, 16),
    layers_per_block=1,
    down_block_types=('DownBlock2D', 'AttnDownBlock2D'),
    up_block_types=('AttnUpBlock2D', 'UpBlock2D'),
    norm_num_groups=4,
    attention_head_dim=8,
)
LAYER = ['mid_block.resnets.1.conv2', 16]
TEACHER: dict[str, Any] = dict(type='reprefine.DiffusionTeacher', source=UNET, layers=[LAYER])


def tiny_teacher(**options: Any) -> DiffusionTeacher:
    """Return a teacher of 16 x 16 images with random weights, the same at every call."""
    config = {**TEACHER, **options}
    config.pop('type')
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return DiffusionTeacher(**config)


@cache
def tiny_teacher_folder() -> str:
    """Write the teacher as diffusers does, and return its folder."""
    folder = tempfile.mkdtemp(prefix='tiny_teacher_')
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    tiny_teacher().unet.save_pretrained(folder)
    return folder
