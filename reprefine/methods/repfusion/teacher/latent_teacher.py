"""Teachers that are latent diffusion models, such as Stable Diffusion."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from reprefine.engine.errors import UserError
from reprefine.registry import MODELS

from .diffusion_teacher import DiffusionTeacher, unet_size
from .sources import find_folder, load_unet


@MODELS.register_module()
class LatentDiffusionTeacher(DiffusionTeacher):
    """A ``UNet2DConditionModel`` whose inputs are the mean latent of an image and the embedding of one prompt.

    Noise, if any, is added to the latent. The inputs of policies and caches are the images.

    Args:
        source: Dict of ``unet`` (see :func:`load_unet`), ``vae`` (config of an ``AutoencoderKL``; default: the folder
            ``vae`` beside the UNet) and ``prompt``: a ``.npy`` file with the text encoder's output for the empty
            prompt, ``[L, D]``, computed once with transformers; or ``'zeros'``, for tests.
        *args: Further arguments of :class:`DiffusionTeacher`.
        **kwargs: Further arguments of :class:`DiffusionTeacher`.

    Raises:
        UserError: If the source is incomplete or cannot be loaded.
    """

    def _load(self, source: str | dict[str, Any], scheduler: dict[str, Any] | None) -> Any:
        if not isinstance(source, dict) or not {'unet', 'prompt'} <= source.keys():
            given = f'the keys {", ".join(source)}' if isinstance(source, dict) else f"the value '{source}'"
            raise UserError(
                f'LatentDiffusionTeacher: source has {given}: give a dict of unet, prompt and optionally vae'
            )
        self.unet, noise_scheduler = load_unet(source['unet'], scheduler)
        width = getattr(self.unet.config, 'cross_attention_dim', None)
        if width is None:
            raise UserError('LatentDiffusionTeacher needs a UNet2DConditionModel: use reprefine.DiffusionTeacher')
        self.vae = _load_vae(source)
        self.register_buffer('prompt', _load_prompt(source['prompt'], width), persistent=False)
        factor = 2 ** (len(self.vae.config.block_out_channels) - 1)
        height, width = unet_size(self.unet)
        self.size, self.in_channels = (height * factor, width * factor), self.vae.config.in_channels
        return noise_scheduler

    def _encode(self, images: Tensor) -> Tensor:
        latents = self.vae.encode(images.to(self.vae.dtype)).latent_dist.mean
        return (latents * self.vae.config.scaling_factor).to(images.dtype)

    def _run(self, images: Tensor, timesteps: Tensor, classes: Tensor | None) -> None:
        prompt = self.prompt.to(images.dtype).expand(len(images), -1, -1)
        with torch.no_grad():
            self.unet(images, timesteps, encoder_hidden_states=prompt, class_labels=classes, return_dict=False)


def _load_vae(source: dict[str, Any]) -> nn.Module:
    from diffusers import AutoencoderKL

    if source.get('vae') is not None:
        return AutoencoderKL(**source['vae'])
    if not isinstance(source['unet'], str):
        raise UserError(
            'LatentDiffusionTeacher: source has no vae, which a UNet built from a config needs: add its config'
        )
    folder = find_folder(source['unet']) / 'vae'
    try:
        return AutoencoderKL.from_pretrained(folder, low_cpu_mem_usage=False, local_files_only=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f'the autoencoder in {folder} cannot be read: {error}') from error


def _load_prompt(prompt: str, width: int) -> Tensor:
    if prompt == 'zeros':
        return torch.zeros(1, 1, width)
    if not Path(prompt).is_file():
        raise UserError(
            f"prompt {prompt} does not exist: give the text encoder's output [L, {width}] as .npy, or 'zeros'"
        )
    try:
        embedding = torch.from_numpy(np.load(prompt, allow_pickle=False)).float()
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f'prompt {prompt} cannot be read: {error}') from error
    if embedding.dim() != 2 or embedding.shape[1] != width:
        raise UserError(f'prompt {prompt} has the shape {list(embedding.shape)}, not [L, {width}]')
    return embedding[None]
