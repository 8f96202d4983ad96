"""Import of TransReID-SSL checkpoints: ViTs pre-trained on LUPerson, and ReID models fine-tuned from them."""

import argparse
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reprefine.engine.checkpoints.checkpoint import read_checkpoint
from reprefine.engine.checkpoints.rename_keys import unwrap_state_dict
from reprefine.engine.errors import UserError
from reprefine.engine.files import atomic_write
from reprefine.models.vit_conv_stem import STEM_STRIDE, ConvStemViT, PortraitViT, portrait_grid

# Keys of the state dict in a checkpoint. DINO stores the student, and the teacher, which is its moving average.
CONTAINERS = ('teacher', 'state_dict', 'model')
PREFIX = re.compile(r'(teacher\.)?(module\.)?(base\.|backbone\.)?')
HEAD_WIDTH = 64
RENAMES = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r'(cls_token|pos_embed)', r'backbone.\1'),
        (r'patch_embed\.((?:conv|proj)\..+)', r'backbone.patch_embed.projection.\1'),
        (r'blocks\.(\d+)\.norm([12]\..+)', r'backbone.layers.\1.ln\2'),
        (r'blocks\.(\d+)\.(attn\..+)', r'backbone.layers.\1.\2'),
        (r'blocks\.(\d+)\.mlp\.fc1\.(.+)', r'backbone.layers.\1.ffn.layers.0.0.\2'),
        (r'blocks\.(\d+)\.mlp\.fc2\.(.+)', r'backbone.layers.\1.ffn.layers.1.\2'),
        (r'norm\.(.+)', r'backbone.ln1.\1'),
        (r'(bottleneck\..+|classifier\.weight)', r'head.\1'),
        # Dropped: DINO's projection head, and the ImageNet classifier that TransReID builds but does not call.
        (r'(?:head|fc)\..+', ''),
    )
]


def import_checkpoint(source: str | Path, target: str | Path) -> dict[str, Any]:
    """Convert a TransReID-SSL checkpoint to the keys of this package's models.

    Args:
        source: Supervised checkpoint of TransReID-SSL, or DINO checkpoint of such a ViT.
        target: File to write atomically; it must not exist.

    Returns:
        Config of the backbone of the checkpoint.

    Raises:
        UserError: If the target exists, or the source cannot be read or has missing or unexpected keys.
    """
    if Path(target).exists():
        raise UserError(f'{target} exists: give another name, or remove it')
    # DINO stores its command-line arguments in the checkpoint.
    with torch.serialization.safe_globals([argparse.Namespace]):
        checkpoint = read_checkpoint(str(source))
    try:
        state_dict = convert_state_dict(extract_state_dict(checkpoint))
        backbone = infer_backbone(state_dict)
    except UserError as error:
        raise UserError(f'{source} is not a TransReID-SSL checkpoint of a ViT: {error}') from error
    with atomic_write(target) as partial:
        meta = dict(source=Path(source).name, backbone=backbone)
        torch.save(dict(meta=meta, state_dict=state_dict), partial)
    return backbone


def extract_state_dict(checkpoint: dict[str, Any]) -> dict[str, Tensor]:
    """Return the state dict of a checkpoint without the prefixes of its keys."""
    weights = unwrap_state_dict(checkpoint, CONTAINERS)
    return {PREFIX.sub('', key, count=1): value for key, value in weights.items()}


def convert_state_dict(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename keys to those of a model of :class:`ConvStemViT` or :class:`PortraitViT` with ``BNNeckHead``.

    Args:
        state_dict: State dict with timm's keys of a ViT, without prefix.

    Raises:
        UserError: If there are unexpected keys.
    """
    has_stem = any(key.startswith('patch_embed.conv.') for key in state_dict)
    renamed, unexpected = {}, []
    for key, value in state_dict.items():
        match, new = next(((m, new) for pattern, new in RENAMES if (m := pattern.fullmatch(key))), (None, ''))
        if match is None or not torch.is_tensor(value):
            unexpected.append(key)
        elif new:
            name = match.expand(new)
            renamed[name if has_stem else name.replace('projection.proj.', 'projection.')] = value
    if unexpected:
        raise UserError(f'unexpected keys {_join_names(unexpected)}')
    return renamed


def infer_backbone(state_dict: dict[str, Tensor]) -> dict[str, Any]:
    """Infer the config of the backbone from the shapes of its weights, and check that all keys and shapes match.

    Args:
        state_dict: Result of :func:`convert_state_dict`.

    Returns:
        Config of the backbone; the number of attention heads assumes 64 channels per head.

    Raises:
        UserError: If weights are missing or there is a size mismatch.
    """
    config = _backbone_config(state_dict)
    arguments = {key: value for key, value in config.items() if key != 'type'}
    with torch.device('meta'):
        model = (ConvStemViT if 'ConvStem' in config['type'] else PortraitViT)(**arguments)
    expected = {f'backbone.{key}': value.shape for key, value in model.state_dict().items()}
    found = {key: value.shape for key, value in state_dict.items() if key.startswith('backbone.')}
    wrong = [key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key)]
    if wrong:
        raise UserError(f'missing keys, unexpected keys or size mismatch: {_join_names(wrong)}')
    return config


def _backbone_config(state_dict: dict[str, Tensor]) -> dict[str, Any]:
    def shape(name: str) -> torch.Size:
        if f'backbone.{name}' not in state_dict:
            raise UserError(f'missing key backbone.{name}')
        return state_dict[f'backbone.{name}'].shape

    width = shape('cls_token')[-1]
    blocks = {key.split('.')[2] for key in state_dict if key.startswith('backbone.layers.')}
    arch = dict(
        embed_dims=width,
        num_layers=len(blocks),
        num_heads=width // HEAD_WIDTH,
        feedforward_channels=shape('layers.0.ffn.layers.0.0.weight')[0],
    )
    has_stem = 'backbone.patch_embed.projection.conv.0.weight' in state_dict
    if has_stem:
        channels, _, kernel, _ = shape('patch_embed.projection.conv.0.weight')
        stem = dict(type='reprefine.ConvStemViT', stem_channels=channels, stem_kernel=kernel)
        patch_size = STEM_STRIDE * shape('patch_embed.projection.proj.weight')[-1]
    else:
        stem = dict(type='reprefine.PortraitViT')
        patch_size = shape('patch_embed.projection.weight')[-1]
    img_size = tuple(patch_size * side for side in portrait_grid(shape('pos_embed')[1] - 1))
    return dict(**stem, arch=arch, img_size=img_size, patch_size=patch_size)


def _join_names(names: list[str]) -> str:
    more = f' and {len(names) - 8} more' if len(names) > 8 else ''
    return ', '.join(sorted(names)[:8]) + more
