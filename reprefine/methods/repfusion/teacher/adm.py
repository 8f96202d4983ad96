"""UNets of guided-diffusion (ADM, arXiv 2105.05233) as UNets of diffusers.

Their files do not say in which order the attention's 3C projections stand, and either order loads. It is taken from the
published recipes where the file is one of them, and otherwise tried out: only the right order removes noise well.
"""

from typing import Any

import torch
import torch.nn.functional as F
from mmengine.dist import is_main_process
from mmengine.logging import MMLogger
from torch import Tensor, nn

from reprefine.engine.checkpoints.checkpoint import read_checkpoint
from reprefine.engine.errors import UserError

from ..functional import add_noise
from .adm_state_dict import Recipe, convert

ORDERS = ('legacy', 'new')
# The error of the wrong order exceeds that of the right one by more than this share.
_MARGIN = 0.02
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
    scheduler = build_scheduler(found.schedule)
    if checkpoint is None:
        return build_unet(found), scheduler
    with torch.device('meta'):  # the file brings the weights, half a billion of them
        unet = build_unet(found)
    state = read_checkpoint(checkpoint)
    state = state.get('state_dict', state)
    _fill(unet, state, found, found.attention_order, checkpoint)
    if published_order(found) is None and is_main_process():
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
    known = published_order(found)
    order = order or known
    if order not in ORDERS:
        raise UserError(
            f"ADM: attention_order is '{order}'; say legacy or new, as use_new_attention_order was in training"
        )
    if known is not None and order != known:
        raise UserError(f"ADM: this model was trained with attention_order='{known}', not '{order}'")
    return found._replace(attention_order=order)


def published_order(recipe: Recipe) -> str | None:
    """Return the attention order of the published model of that shape, None if there is none."""
    orders = {r._replace(attention_order=None, schedule=''): r.attention_order for r in RECIPES.values()}
    return orders.get(recipe._replace(attention_order=None, schedule=''))


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


def _fill(unet: nn.Module, state: dict[str, Tensor], recipe: Recipe, order: str, filename: str) -> None:
    """Give the UNet the weights of guided-diffusion, without a copy where they are in float32."""
    converted = convert(state, recipe, order, unet.state_dict(), filename)
    unet.load_state_dict({name: value.float() for name, value in converted.items()}, assign=True)


def _check_order(unet: nn.Module, abar: Tensor, state: dict[str, Tensor], recipe: Recipe, filename: str) -> None:
    """Refuse weights with which the other order removes noise better; smooth images will do for both.

    The UNet is tried with both orders, one after the other, and ends with that of the recipe.
    """
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(8, 3, 4, 4, generator=generator) * 2 - 1
    images = F.interpolate(coarse, recipe.image_size, mode='bicubic', align_corners=False).clamp(-1, 1)
    noise = torch.randn(images.shape, generator=generator)
    t = torch.linspace(0.1, 0.8, len(images)).mul(len(abar)).long()
    other = ORDERS[recipe.attention_order == 'legacy']
    errors = {}
    for order in (other, recipe.attention_order):
        _fill(unet, state, recipe, order, filename)
        errors[order] = denoising_error(unet.eval(), abar, images, noise, t)
    theirs, ours = errors.values()
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
