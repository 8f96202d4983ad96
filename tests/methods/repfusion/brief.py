"""Options that shorten the runs of RepFusion's configs in tests."""

from collections.abc import Mapping
from typing import Any

from tests.methods.repfusion.tiny import tiny_teacher_folder


def options(path: str, node: Mapping[str, Any]) -> dict[str, Any]:
    """Return small diffusion models, one iteration of warm-up and few samples."""
    kind = node.get('type')
    small: dict[str, Any] = {}
    if kind == 'reprefine.DiffusionTeacher':
        # Unconditional, whatever the teacher of the config is.
        layers = [['mid_block.resnets.1.conv2', 16] for _ in node['layers']]
        small = dict(source=tiny_teacher_folder(), layers=layers, label_map=None)
    elif kind == 'reprefine.RLTimestepSelectorHook':
        small = dict(warmup_epochs=0, warmup_iters=1)
    elif kind == 'reprefine.SampleGridHook':
        small = dict(num=2, steps=2)
    if path.startswith('model') and 'block_out_channels' in node:
        blocks = len(node['block_out_channels'])
        small |= dict(block_out_channels=[8] * blocks, norm_num_groups=4, layers_per_block=1)
    return {f'{path}.{key}': value for key, value in small.items()}
