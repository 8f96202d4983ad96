"""How the modules of guided-diffusion (ADM, arXiv 2105.05233) are called in diffusers."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from torch import Tensor

from reprefine.engine.errors import UserError

_RES = {'in_layers.0': 'norm1', 'in_layers.2': 'conv1', 'emb_layers.1': 'time_emb_proj', 'out_layers.0': 'norm2'} | {
    'out_layers.3': 'conv2',
    'skip_connection': 'conv_shortcut',
}


class Recipe(NamedTuple):
    """Shape of an ADM.

    Attributes:
        image_size: Height and width of the images.
        channels: Base width.
        channel_mult: Factor of the width at each level.
        num_res_blocks: Residual blocks a level.
        attention_at: Resolutions in pixels that have attention.
        head_channels: Width of an attention head.
        num_classes: Number of classes it is told; None: none.
        schedule: ``'linear'`` or ``'cosine'``.
        attention_order: ``'legacy'``: q, k and v head by head; ``'new'``: all q, all k, all v.
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
    """Split joint projections ``[3C, ...]`` into those of q, k and v, ``[C, ...]`` each.

    Args:
        qkv: Weight or bias.
        head_channels: Width of an attention head.
        order: ``'legacy'`` or ``'new'``.
    """
    if order == 'new':
        return qkv.chunk(3)
    by_head = qkv.view(-1, 3, head_channels, *qkv.shape[1:])
    return tuple(by_head[:, i].flatten(0, 1) for i in range(3))


def _modules(recipe: Recipe) -> Iterator[tuple[str, str, str]]:
    """Yield kind (``plain``, ``res`` or ``attn``), name in guided-diffusion and name in diffusers of every module."""
    yield from (('plain', f'time_embed.{2 * i}', f'time_embedding.linear_{i + 1}') for i in range(2))
    if recipe.num_classes is not None:
        yield 'plain', 'label_emb', 'class_embedding'
    yield 'plain', 'input_blocks.0.0', 'conv_in'
    last, blocks = len(recipe.channel_mult) - 1, recipe.num_res_blocks
    yield from _levels('input_blocks', 1, 'down_blocks', 'downsamplers', range(last + 1), blocks, recipe)
    yield 'res', 'middle_block.0', 'mid_block.resnets.0'
    yield 'attn', 'middle_block.1', 'mid_block.attentions.0'
    yield 'res', 'middle_block.2', 'mid_block.resnets.1'
    yield from _levels('output_blocks', 0, 'up_blocks', 'upsamplers', range(last, -1, -1), blocks + 1, recipe)
    yield from (('plain', 'out.0', 'conv_norm_out'), ('plain', 'out.2', 'conv_out'))


def _levels(
    theirs: str, first: int, ours: str, samplers: str, levels: Sequence[int], blocks: int, recipe: Recipe
) -> Iterator[tuple[str, str, str]]:
    """Yield the modules of one half; a downsampler is an entry of its own, an upsampler part of the last one."""
    number = first
    for index, level in enumerate(levels):
        has_attention = (recipe.image_size >> level) in recipe.attention_at
        for block in range(blocks):
            yield 'res', f'{theirs}.{number}.0', f'{ours}.{index}.resnets.{block}'
            if has_attention:
                yield 'attn', f'{theirs}.{number}.1', f'{ours}.{index}.attentions.{block}'
            number += 1
        if index < len(levels) - 1:
            if samplers == 'downsamplers':
                yield 'res', f'{theirs}.{number}.0', f'{ours}.{index}.{samplers}.0'
                number += 1
            else:
                yield 'res', f'{theirs}.{number - 1}.{1 + has_attention}', f'{ours}.{index}.{samplers}.0'


def convert(
    state: dict[str, Tensor], recipe: Recipe, order: str, expected: Mapping[str, Tensor], filename: str
) -> dict[str, Tensor]:
    """Rename a state dict of guided-diffusion; every tensor must be used.

    Args:
        state: The weights; they are left as they are.
        recipe: Shape of the model.
        order: Order of the attention's projections, ``'legacy'`` or ``'new'``.
        expected: State dict of diffusers' UNet of that shape, whose names and shapes must be met.
        filename: For messages.

    Raises:
        UserError: If they are not.
    """
    rest, result = dict(state), {}
    try:
        for kind, theirs, ours in _modules(recipe):
            if kind == 'attn':
                result |= _attention(rest, theirs, ours, recipe.head_channels, order)
                continue
            for name, new in (_RES if kind == 'res' else {'': ''}).items():
                source, target = f'{theirs}.{name}'.rstrip('.'), f'{ours}.{new}'.rstrip('.')
                for part in ('weight', 'bias'):
                    if f'{source}.{part}' in rest:
                        result[f'{target}.{part}'] = rest.pop(f'{source}.{part}')
        wrong = [key for key in expected if key not in result or result[key].shape != expected[key].shape]
    except (KeyError, RuntimeError) as error:
        raise UserError(f'ADM: {filename} does not have the given shape: {error}') from error
    if wrong or rest:
        raise UserError(
            f'ADM: {filename} does not have the given shape: {len(wrong)} tensors do not fit, {len(rest)} are left over'
        )
    return result


def _attention(rest: dict[str, Tensor], theirs: str, ours: str, head_channels: int, order: str) -> dict[str, Tensor]:
    result = {}
    for part in ('weight', 'bias'):
        result[f'{ours}.group_norm.{part}'] = rest.pop(f'{theirs}.norm.{part}')
        projections = split_qkv(rest.pop(f'{theirs}.qkv.{part}'), head_channels, order)
        projections = (*projections, rest.pop(f'{theirs}.proj_out.{part}'))
        for name, value in zip(('to_q', 'to_k', 'to_v', 'to_out.0'), projections, strict=True):
            result[f'{ours}.{name}.{part}'] = value.squeeze(-1) if part == 'weight' else value
    return result
