"""Loading of UNets of guided-diffusion (ADM, arXiv 2105.05233) as UNets of diffusers.

The files do not record the order of the channels of the attention's qkv projection, and weights of either order load.
It is known for the published models. For others the denoising errors of both orders are compared.
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
from .adm_state_dict import ADMConfig, convert_state_dict

ATTENTION_ORDERS = ('legacy', 'new')
# The error of the wrong order is higher than that of the correct one by more than this fraction.
_MARGIN = 0.02
PUBLISHED_CONFIGS = dict(
    imagenet64=ADMConfig(64, 192, (1, 2, 3, 4), 3, num_classes=1000, schedule='cosine', attention_order='new'),
    imagenet256_uncond=ADMConfig(256, 256, (1, 1, 2, 2, 4, 4), 2, attention_order='legacy'),
)


def load_adm(
    checkpoint: str | None = None, recipe: str | None = None, attention_order: str | None = None, **shape: Any
) -> tuple[nn.Module, Any]:
    """Return an ADM as ``UNet2DModel``, and its noise scheduler.

    Its bottleneck convolution ``middle_block.2.out_layers.3`` is ``mid_block.resnets.1.conv2`` in diffusers.

    Args:
        checkpoint: File of guided-diffusion, such as ``64x64_diffusion.pt``; None: random weights.
        recipe: Name of a published model, ``'imagenet64'`` or ``'imagenet256_uncond'``.
        attention_order: ``'legacy'`` or ``'new'``; required without a recipe.
        **shape: Fields of :class:`ADMConfig`, instead of a recipe.

    Raises:
        UserError: If the file does not match the config, or its attention has the other order.
    """
    config = _get_config(recipe, attention_order, shape)
    scheduler = build_scheduler(config.schedule)
    if checkpoint is None:
        return build_unet(config), scheduler
    with torch.device('meta'):  # half a billion weights, which the file replaces
        unet = build_unet(config)
    state = read_checkpoint(checkpoint)
    state = state.get('state_dict', state)
    _load_weights(unet, state, config, config.attention_order, checkpoint)
    if published_order(config) is None and is_main_process():
        _check_order(unet, scheduler.alphas_cumprod, state, config, checkpoint)
    return unet, scheduler


def _get_config(recipe: str | None, order: str | None, shape: dict[str, Any]) -> ADMConfig:
    if recipe is not None and recipe not in PUBLISHED_CONFIGS:
        raise UserError(f"ADM: unknown recipe '{recipe}': use {', '.join(PUBLISHED_CONFIGS)}")
    try:
        fields = {name: tuple(value) if isinstance(value, list) else value for name, value in shape.items()}
        config = PUBLISHED_CONFIGS[recipe] if recipe else ADMConfig(**fields)
    except TypeError as error:
        raise UserError(
            f'ADM: give a recipe ({", ".join(PUBLISHED_CONFIGS)}) or all fields of the shape: {error}'
        ) from error
    published = published_order(config)
    order = order or published
    if order not in ATTENTION_ORDERS:
        raise UserError(
            f"ADM: attention_order is {order!r}: use 'new' if the model was trained with use_new_attention_order, else "
            "'legacy'"
        )
    if published is not None and order != published:
        raise UserError(f"ADM: attention_order is '{order}', but this model was trained with '{published}': use that")
    return config._replace(attention_order=order)


def published_order(config: ADMConfig) -> str | None:
    """Return the attention order of the published model of this shape, None if there is none."""
    orders = {c._replace(attention_order=None, schedule=''): c.attention_order for c in PUBLISHED_CONFIGS.values()}
    return orders.get(config._replace(attention_order=None, schedule=''))


def build_unet(config: ADMConfig) -> nn.Module:
    """Return the UNet of a config with random weights."""
    from diffusers import UNet2DModel

    resolutions = [config.image_size >> level for level in range(len(config.channel_mult))]
    has_attention = [resolution in config.attention_at for resolution in resolutions]
    return UNet2DModel(
        sample_size=config.image_size,
        out_channels=6,  # mean and variance
        block_out_channels=tuple(config.channels * mult for mult in config.channel_mult),
        down_block_types=tuple('AttnDownBlock2D' if a else 'ResnetDownsampleBlock2D' for a in has_attention),
        up_block_types=tuple('AttnUpBlock2D' if a else 'ResnetUpsampleBlock2D' for a in reversed(has_attention)),
        layers_per_block=config.num_res_blocks,
        attention_head_dim=config.head_channels,
        downsample_type='resnet',
        upsample_type='resnet',
        resnet_time_scale_shift='scale_shift',
        attn_norm_num_groups=32,
        num_class_embeds=config.num_classes,
    )


def build_scheduler(schedule: str) -> Any:
    """Return a scheduler of 1000 timesteps.

    Args:
        schedule: ``'linear'`` or ``'cosine'``.

    Raises:
        UserError: If the schedule is unknown.
    """
    from diffusers import DDPMScheduler

    names = dict(linear='linear', cosine='squaredcos_cap_v2')
    if schedule not in names:
        raise UserError(f"ADM: unknown schedule '{schedule}': use linear or cosine")
    return DDPMScheduler(beta_schedule=names[schedule])


@torch.no_grad()
def denoising_error(unet: nn.Module, alphas_cumprod: Tensor, images: Tensor, noise: Tensor, t: Tensor) -> float:
    """Return the mean squared error of the predicted noise.

    Args:
        unet: UNet whose first channels predict the noise.
        alphas_cumprod: Noise schedule ``[T]``.
        images: ``[N, 3, H, W]`` in [-1, 1].
        noise: Standard normal noise of the shape of the images.
        t: Timesteps ``[N]``.
    """
    labels = None if unet.class_embedding is None else torch.arange(len(t)) % unet.config.num_class_embeds
    predicted = unet(add_noise(images, t, alphas_cumprod, noise), t, class_labels=labels, return_dict=False)[0]
    return F.mse_loss(predicted[:, : images.shape[1]], noise).item()


def _load_weights(unet: nn.Module, state: dict[str, Tensor], config: ADMConfig, order: str, filename: str) -> None:
    """Load weights of guided-diffusion into the UNet, without a copy of those in float32."""
    converted = convert_state_dict(state, config, order, unet.state_dict(), filename)
    unet.load_state_dict({name: value.float() for name, value in converted.items()}, assign=True)


def _check_order(
    unet: nn.Module, alphas_cumprod: Tensor, state: dict[str, Tensor], config: ADMConfig, filename: str
) -> None:
    """Raise an error if the other order has a lower denoising error, on random smooth images.

    The weights are loaded in both orders; those of the config's order stay.
    """
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(8, 3, 4, 4, generator=generator) * 2 - 1
    images = F.interpolate(coarse, config.image_size, mode='bicubic', align_corners=False).clamp(-1, 1)
    noise = torch.randn(images.shape, generator=generator)
    t = torch.linspace(0.1, 0.8, len(images)).mul(len(alphas_cumprod)).long()
    order = config.attention_order
    other_order = ATTENTION_ORDERS[order == 'legacy']
    errors = {}
    for candidate in (other_order, order):
        _load_weights(unet, state, config, candidate, filename)
        errors[candidate] = denoising_error(unet.eval(), alphas_cumprod, images, noise, t)
    if errors[other_order] < errors[order] * (1 - _MARGIN):
        raise UserError(
            f"ADM: attention_order is '{order}', but the attention of {filename} has the order '{other_order}' (error "
            f"of the predicted noise {errors[order]:.4f} against {errors[other_order]:.4f}): use '{other_order}'"
        )
    if errors[order] >= errors[other_order] * (1 - _MARGIN):
        MMLogger.get_current_instance().warning(
            f"The attention_order '{order}' of {filename} cannot be verified: both orders predict noise equally well "
            f'({errors[order]:.4f}, {errors[other_order]:.4f})'
        )
