"""UNets of guided-diffusion (ADM, arXiv 2105.05233) as UNets of diffusers.

Their files do not say in which order the attention's 3C projections stand, and either order loads. It is taken from the
published recipes where the file is one of them, and otherwise tried out: only the right order removes noise well.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from mmengine.logging import MMLogger
from torch import Tensor, nn

from reprefine.engine.checkpoint import read_checkpoint
from reprefine.engine.errors import UserError

from .functional import add_noise

ORDERS = ('legacy', 'new')
# The error of the wrong order exceeds that of the right one by more than this share.
_MARGIN = 0.02
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


RECIPES = dict(
    imagenet64=Recipe(64, 192, (1, 2, 3, 4), 3, num_classes=1000, schedule='cosine', attention_order='new'),
    imagenet256_uncond=Recipe(256, 256, (1, 1, 2, 2, 4, 4), 2, attention_order='legacy'),
)


def load_adm(
    checkpoint: str | None = None, recipe: str | None = None, attention_order: str | None = None, **shape: Any
) -> tuple[nn.Module, Any]:
    """Return an ADM as ``UNet2DModel`` together with its noise scheduler.

    Its bottleneck convolution ``middle_block.2.out_layers.3`` is called ``mid_block.resnets.1.conv2``.

    Args:
        checkpoint: File of guided-diffusion, such as ``64x64_diffusion.pt``; None: random weights.
        recipe: ``'imagenet64'`` or ``'imagenet256_uncond'``.
        attention_order: ``'legacy'`` or ``'new'``; needed without a recipe.
        **shape: Fields of :class:`Recipe` instead of a recipe.

    Raises:
        UserError: If the file does not have the shape, or its attention stands in the other order.
    """
    found = _recipe(recipe, attention_order, shape)
    unet, scheduler = build_unet(found), build_scheduler(found.schedule)
    if checkpoint is not None:
        state = read_checkpoint(checkpoint)
        unet.load_state_dict(_convert(state, found, found.attention_order, checkpoint))
        _check_order(unet, scheduler.alphas_cumprod, state, found, checkpoint)
    return unet, scheduler


def _recipe(name: str | None, order: str | None, shape: dict[str, Any]) -> Recipe:
    if name is not None and name not in RECIPES:
        raise UserError(f"ADM: unknown recipe '{name}': use {', '.join(RECIPES)}")
    try:
        found = (
            RECIPES[name] if name else Recipe(**{k: tuple(v) if isinstance(v, list) else v for k, v in shape.items()})
        )
    except TypeError as error:
        raise UserError(f'ADM: give a recipe ({", ".join(RECIPES)}) or a whole shape: {error}') from error
    published = {r._replace(attention_order=None, schedule=''): r.attention_order for r in RECIPES.values()}
    known = published.get(found._replace(attention_order=None, schedule=''))
    order = order or known
    if order not in ORDERS:
        raise UserError(
            f"ADM: attention_order is '{order}'; say legacy or new, as use_new_attention_order was in training"
        )
    if known is not None and order != known:
        raise UserError(f"ADM: this model was trained with attention_order='{known}', not '{order}'")
    return found._replace(attention_order=order)


def build_unet(recipe: Recipe) -> nn.Module:
    """Return the UNet of a recipe with random weights."""
    from diffusers import UNet2DModel

    sides = [recipe.image_size >> level for level in range(len(recipe.channel_mult))]
    has_attention = [side in recipe.attention_at for side in sides]
    return UNet2DModel(
        sample_size=recipe.image_size,
        out_channels=6,  # mean and variance
        block_out_channels=tuple(recipe.channels * mult for mult in recipe.channel_mult),
        down_block_types=tuple('AttnDownBlock2D' if a else 'ResnetDownsampleBlock2D' for a in has_attention),
        up_block_types=tuple('AttnUpBlock2D' if a else 'ResnetUpsampleBlock2D' for a in reversed(has_attention)),
        layers_per_block=recipe.num_res_blocks,
        attention_head_dim=recipe.head_channels,
        downsample_type='resnet',
        upsample_type='resnet',
        resnet_time_scale_shift='scale_shift',
        attn_norm_num_groups=32,
        num_class_embeds=recipe.num_classes,
    )


def build_scheduler(schedule: str) -> Any:
    """Return the scheduler of 1000 steps, ``'linear'`` or ``'cosine'``.

    Raises:
        UserError: If it is neither.
    """
    from diffusers import DDPMScheduler

    names = dict(linear='linear', cosine='squaredcos_cap_v2')
    if schedule not in names:
        raise UserError(f"ADM: unknown schedule '{schedule}': use linear or cosine")
    return DDPMScheduler(beta_schedule=names[schedule])


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


def _convert(state: dict[str, Tensor], recipe: Recipe, order: str, filename: str) -> dict[str, Tensor]:
    """Rename a state dict of guided-diffusion; every tensor must be used."""
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
        expected = {key: value.shape for key, value in build_meta(recipe).items()}
        wrong = [key for key in expected if key not in result or result[key].shape != expected[key]]
    except (KeyError, RuntimeError) as error:
        raise UserError(f'ADM: {filename} does not have the given shape: {error}') from error
    if wrong or rest:
        raise UserError(
            f'ADM: {filename} does not have the given shape: {len(wrong)} tensors do not fit, {len(rest)} are left over'
        )
    return result


def build_meta(recipe: Recipe) -> dict[str, Tensor]:
    """Return the state dict of a recipe's UNet without memory for it."""
    with torch.device('meta'):
        return build_unet(recipe).state_dict()


def _attention(rest: dict[str, Tensor], theirs: str, ours: str, head_channels: int, order: str) -> dict[str, Tensor]:
    result = {}
    for part in ('weight', 'bias'):
        result[f'{ours}.group_norm.{part}'] = rest.pop(f'{theirs}.norm.{part}')
        projections = split_qkv(rest.pop(f'{theirs}.qkv.{part}'), head_channels, order)
        projections = (*projections, rest.pop(f'{theirs}.proj_out.{part}'))
        for name, value in zip(('to_q', 'to_k', 'to_v', 'to_out.0'), projections, strict=True):
            result[f'{ours}.{name}.{part}'] = value.squeeze(-1) if part == 'weight' else value
    return result


@torch.no_grad()
def denoising_error(unet: nn.Module, abar: Tensor, images: Tensor, noise: Tensor, t: Tensor) -> float:
    """Return the mean squared error of the predicted noise.

    Args:
        unet: UNet whose first channels predict the noise.
        abar: Noise schedule ``[T]``.
        images: ``[N, 3, H, W]`` in [-1, 1].
        noise: Standard normal, as the images.
        t: Timesteps ``[N]``.
    """
    labels = None if unet.class_embedding is None else torch.arange(len(t)) % unet.config.num_class_embeds
    predicted = unet(add_noise(images, t, abar, noise), t, class_labels=labels, return_dict=False)[0]
    return F.mse_loss(predicted[:, : images.shape[1]], noise).item()


def _check_order(unet: nn.Module, abar: Tensor, state: dict[str, Tensor], recipe: Recipe, filename: str) -> None:
    """Refuse weights with which the other order removes noise better; smooth images will do for both."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(8, 3, 4, 4, generator=generator) * 2 - 1
    images = F.interpolate(coarse, recipe.image_size, mode='bicubic', align_corners=False).clamp(-1, 1)
    noise = torch.randn(images.shape, generator=generator)
    t = torch.linspace(0.1, 0.8, len(images)).mul(len(abar)).long()
    other = ORDERS[recipe.attention_order == 'legacy']
    swapped = build_unet(recipe).eval()
    swapped.load_state_dict(_convert(state, recipe, other, filename))
    ours, theirs = (denoising_error(net.eval(), abar, images, noise, t) for net in (unet, swapped))
    if theirs < ours * (1 - _MARGIN):
        raise UserError(
            f"ADM: the attention of {filename} stands in the order '{other}', not '{recipe.attention_order}': error of "
            f'the predicted noise {theirs:.4f} against {ours:.4f}'
        )
    if ours >= theirs * (1 - _MARGIN):
        MMLogger.get_current_instance().warning(
            f'Whether the attention of {filename} stands in the order {recipe.attention_order} cannot be told: both '
            f'orders remove noise equally well ({ours:.4f}, {theirs:.4f})'
        )
