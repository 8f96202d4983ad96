"""Training of a diffusion model as a teacher: a UNet of diffusers as an mmengine model."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from reprefine.engine.errors import UserError
from reprefine.registry import MODELS

from ..labels import check_labels, get_labels

LINEAR_1000 = dict(num_train_timesteps=1000, beta_start=1e-4, beta_end=0.02, beta_schedule='linear')


def prediction_target(scheduler: Any, images: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
    """Return the regression target of the network.

    Args:
        scheduler: Scheduler of diffusers; its ``prediction_type`` is ``epsilon``, ``v_prediction`` or ``sample``.
        images: Clean images ``[N, C, H, W]`` in [-1, 1].
        noise: Standard normal noise of the same shape.
        timesteps: Integers ``[N]``.

    Raises:
        UserError: If the prediction type is another one.
    """
    kind = scheduler.config.prediction_type
    if kind == 'epsilon':
        return noise
    if kind == 'v_prediction':
        return scheduler.get_velocity(_to_float32(images), _to_float32(noise), timesteps)
    if kind == 'sample':
        return images
    raise UserError(f'scheduler: unknown prediction_type {kind!r}: choose from epsilon, v_prediction, sample')


def denoising_errors(
    unet: nn.Module, scheduler: Any, images: Tensor, timesteps: Tensor, noise: Tensor, labels: Tensor | None = None
) -> Tensor:
    """Return the mean squared error of the prediction of each image (Ho et al. 2020, eq. 14).

    Args:
        unet: Network with inputs noisy images and timesteps, and an output with ``sample``.
        scheduler: Scheduler of diffusers, which adds the noise.
        images: Clean images ``[N, C, H, W]`` in [-1, 1].
        timesteps: Integers ``[N]``.
        noise: Standard normal noise of the same shape as the images.
        labels: Labels ``[N]`` for a class-conditional network.

    Returns:
        Errors ``[N]``, float32.
    """
    noisy = scheduler.add_noise(_to_float32(images), _to_float32(noise), timesteps).to(images.dtype)
    condition = {} if labels is None else dict(class_labels=labels)
    predicted = unet(noisy, timesteps, **condition).sample
    target = prediction_target(scheduler, images, noise, timesteps)
    return F.mse_loss(predicted.float(), target.float(), reduction='none').flatten(1).mean(1)


def _to_float32(tensor: Tensor) -> Tensor:
    """Return half precision as float32: schedulers cast ``alphas_cumprod`` to the images' type, where 0.9999 is 1."""
    return tensor.float() if tensor.dtype in (torch.half, torch.bfloat16) else tensor


@MODELS.register_module()
class DenoisingDiffusion(BaseModel):
    """An unconditional or class-conditional DDPM, trained by :func:`denoising_errors` at uniform random timesteps.

    Evaluation returns the errors at fixed timesteps, with the same noise in every evaluation.

    Args:
        unet: Arguments of :class:`diffusers.UNet2DModel`. With ``num_class_embeds`` it is class-conditional.
        scheduler: Arguments of :class:`diffusers.DDPMScheduler`; default: the linear schedule of 1000 timesteps.
        eval_timesteps: Timesteps of the evaluation.
        data_preprocessor: Must map pixels to [-1, 1]: mean and std 127.5.

    Raises:
        UserError: If an evaluation timestep is out of range, or the images are not mapped to [-1, 1].
    """

    def __init__(
        self,
        unet: dict[str, Any],
        scheduler: dict[str, Any] | None = None,
        eval_timesteps: Sequence[int] = (0, 50, 200, 500, 900),
        data_preprocessor: Any = None,
    ) -> None:
        from diffusers import DDPMScheduler, UNet2DModel

        super().__init__(data_preprocessor)
        self.unet = UNet2DModel(**unet)
        self.scheduler = DDPMScheduler(**{**LINEAR_1000, **(scheduler or {})})
        self.num_timesteps = self.scheduler.config.num_train_timesteps
        self.eval_timesteps = tuple(eval_timesteps)
        if wrong := [t for t in self.eval_timesteps if not 0 <= t < self.num_timesteps]:
            raise UserError(f'eval_timesteps: {wrong[0]} is outside 0..{self.num_timesteps - 1}')
        _require_symmetric_range(self.data_preprocessor)

    def forward(self, inputs: Tensor, data_samples: list | None = None, mode: str = 'tensor') -> Any:
        """Return the noise prediction at timestep 0, the loss or the evaluation.

        Args:
            inputs: Images ``[N, C, H, W]`` in [-1, 1].
            data_samples: Samples with labels, for a class-conditional network.
            mode: ``'tensor'``, ``'loss'`` or ``'predict'``.
        """
        labels = self._labels(data_samples)
        if mode == 'loss':
            return self.loss(inputs, labels)
        if mode == 'predict':
            return self.predict(inputs, labels)
        zeros = torch.zeros(len(inputs), dtype=torch.long, device=inputs.device)
        return self.unet(inputs, zeros, class_labels=labels).sample

    def loss(self, images: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """Return the mean error of images ``[N, C, H, W]``, at a random timestep for each."""
        timesteps = torch.randint(self.num_timesteps, (len(images),), device=images.device)
        errors = denoising_errors(self.unet, self.scheduler, images, timesteps, torch.randn_like(images), labels)
        return dict(loss=errors.mean())

    def predict(self, images: Tensor, labels: Tensor | None = None) -> list[BaseDataElement]:
        """Return a data element for each image, with ``errors`` ``[T]`` at ``timesteps``, those of the evaluation."""
        generator = torch.Generator(images.device).manual_seed(0)
        columns = []
        for t in self.eval_timesteps:
            noise = torch.randn(images.shape, generator=generator, device=images.device, dtype=images.dtype)
            timesteps = torch.full((len(images),), t, device=images.device)
            columns.append(denoising_errors(self.unet, self.scheduler, images, timesteps, noise, labels))
        rows = torch.stack(columns, dim=1)
        return [BaseDataElement(errors=row, metainfo=dict(timesteps=self.eval_timesteps)) for row in rows]

    def _labels(self, data_samples: list | None) -> Tensor | None:
        if self.unet.config.num_class_embeds is None:
            return None
        labels = get_labels(data_samples, self.unet.device)
        check_labels(labels, self.unet.config.num_class_embeds, 'num_class_embeds')
        return labels


def _require_symmetric_range(preprocessor: nn.Module) -> None:
    mean, std = (getattr(preprocessor, name, None) for name in ('mean', 'std'))
    if mean is None or not all(torch.all(value == 127.5) for value in (mean, std)):
        raise UserError(
            f'DenoisingDiffusion: data_preprocessor has mean {_as_list(mean)} and std {_as_list(std)}, but images must '
            'be in [-1, 1]: set both to 127.5'
        )


def _as_list(value: Tensor | None) -> list | None:
    return None if value is None else value.flatten().tolist()
