"""Conversion of state dicts of guided-diffusion (ADM, arXiv 2105.05233) to those of diffusers."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from torch import Tensor

from reprefine.engine.errors import UserError

# Layers of a residual block in guided-diffusion -> in diffusers.
_RES_LAYERS = {
    'in_layers.0': 'norm1',
    'in_layers.2': 'conv1',
    'emb_layers.1': 'time_emb_proj',
    'out_layers.0': 'norm2',
    'out_layers.3': 'conv2',
    'skip_connection': 'conv_shortcut',
}


class ADMConfig(NamedTuple):
    """Architecture and noise schedule of an ADM.

    Attributes:
        image_size: Height and width of the images.
        channels: Base number of channels.
        channel_mult: Multiplier of the channels at each level.
        num_res_blocks: Number of residual blocks at each level.
        attention_at: Resolutions in pixels with attention.
        head_channels: Channels of an attention head.
        num_classes: Number of classes that it is conditioned on; None: unconditional.
        schedule: ``'linear'`` or ``'cosine'``.
        attention_order: Order of the channels of qkv. ``'legacy'``: q, k and v of the first head, then of the next;
            ``'new'``: q of all heads, then k, then v.
    """

    image_size: int
    channels: int
    channel_mult: tuple[int, ...]
    num_res_blocks: int
    attention_at: tuple[int, ...] = (32, 16, 8)
    head_channels: int = 64
    num_classes: int | None = None
    schedule: str = 'linear'
    attention_order: str | None = None


def split_qkv(qkv: Tensor, head_channels: int, order: str) -> tuple[Tensor, ...]:
    """Split a qkv projection ``[3C, ...]`` into those of q, k and v, ``[C, ...]`` each.

    Args:
        qkv: Weight or bias.
        head_channels: Channels of an attention head.
        order: ``'legacy'`` or ``'new'``.
    """
    if order == 'new':
        return qkv.chunk(3)
    by_head = qkv.view(-1, 3, head_channels, *qkv.shape[1:])
    return tuple(by_head[:, i].flatten(0, 1) for i in range(3))


def _iter_modules(config: ADMConfig) -> Iterator[tuple[str, str, str]]:
    """Yield kind (``layer``, ``res`` or ``attn``), ADM name and diffusers name of every module."""
    yield from (('layer', f'time_embed.{2 * i}', f'time_embedding.linear_{i + 1}') for i in range(2))
    if config.num_classes is not None:
        yield 'layer', 'label_emb', 'class_embedding'
    yield 'layer', 'input_blocks.0.0', 'conv_in'
    last, blocks = len(config.channel_mult) - 1, config.num_res_blocks
    yield from _iter_levels('input_blocks', 1, 'down_blocks', 'downsamplers', range(last + 1), blocks, config)
    yield 'res', 'middle_block.0', 'mid_block.resnets.0'
    yield 'attn', 'middle_block.1', 'mid_block.attentions.0'
    yield 'res', 'middle_block.2', 'mid_block.resnets.1'
    yield from _iter_levels('output_blocks', 0, 'up_blocks', 'upsamplers', range(last, -1, -1), blocks + 1, config)
    yield from (('layer', 'out.0', 'conv_norm_out'), ('layer', 'out.2', 'conv_out'))


def _iter_levels(
    adm: str, first: int, diffusers: str, samplers: str, levels: Sequence[int], blocks: int, config: ADMConfig
) -> Iterator[tuple[str, str, str]]:
    """Yield the modules of the encoder or decoder.

    In ADM a downsampler is a block of its own, and an upsampler is part of the last block of a level.
    """
    number = first
    for index, level in enumerate(levels):
        has_attention = (config.image_size >> level) in config.attention_at
        for block in range(blocks):
            yield 'res', f'{adm}.{number}.0', f'{diffusers}.{index}.resnets.{block}'
            if has_attention:
                yield 'attn', f'{adm}.{number}.1', f'{diffusers}.{index}.attentions.{block}'
            number += 1
        if index < len(levels) - 1:
            if samplers == 'downsamplers':
                yield 'res', f'{adm}.{number}.0', f'{diffusers}.{index}.{samplers}.0'
                number += 1
            else:
                yield 'res', f'{adm}.{number - 1}.{1 + has_attention}', f'{diffusers}.{index}.{samplers}.0'


def convert_state_dict(
    state: dict[str, Tensor], config: ADMConfig, order: str, expected: Mapping[str, Tensor], filename: str
) -> dict[str, Tensor]:
    """Return the state dict of the UNet of diffusers, with every tensor of that of guided-diffusion.

    Args:
        state: State dict of guided-diffusion; it is not changed.
        config: Config of the model.
        order: Order of the channels of qkv, ``'legacy'`` or ``'new'``.
        expected: State dict of the UNet of diffusers, for names and shapes.
        filename: For messages.

    Raises:
        UserError: If names or shapes do not match.
    """
    unused = dict(state)
    result: dict[str, Tensor] = {}
    try:
        for kind, adm, diffusers in _iter_modules(config):
            if kind == 'attn':
                result |= _convert_attention(unused, adm, diffusers, config.head_channels, order)
                continue
            for source, target in (_RES_LAYERS if kind == 'res' else {'': ''}).items():
                source, target = f'{adm}.{source}'.rstrip('.'), f'{diffusers}.{target}'.rstrip('.')
                for name in ('weight', 'bias'):
                    if f'{source}.{name}' in unused:
                        result[f'{target}.{name}'] = unused.pop(f'{source}.{name}')
        mismatched = [key for key in expected if key not in result or result[key].shape != expected[key].shape]
    except (KeyError, RuntimeError) as error:
        raise UserError(f'ADM: {filename} does not have the given shape: {error}') from error
    if mismatched or unused:
        raise UserError(
            f'ADM: {filename} does not have the given shape: {len(mismatched)} tensors are missing or have another '
            f'size, {len(unused)} are unused'
        )
    return result


def _convert_attention(
    unused: dict[str, Tensor], adm: str, diffusers: str, head_channels: int, order: str
) -> dict[str, Tensor]:
    result = {}
    for name in ('weight', 'bias'):
        result[f'{diffusers}.group_norm.{name}'] = unused.pop(f'{adm}.norm.{name}')
        projections = split_qkv(unused.pop(f'{adm}.qkv.{name}'), head_channels, order)
        projections = (*projections, unused.pop(f'{adm}.proj_out.{name}'))
        for layer, value in zip(('to_q', 'to_k', 'to_v', 'to_out.0'), projections, strict=True):
            result[f'{diffusers}.{layer}.{name}'] = value.squeeze(-1) if name == 'weight' else value
    return result
