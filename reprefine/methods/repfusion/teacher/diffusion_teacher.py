"""The frozen diffusion UNet whose features the student regresses."""

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.logging import MMLogger
from torch import Tensor, nn

from reprefine.engine.errors import UserError
from reprefine.models.precision import FullPrecisionBuffers
from reprefine.registry import MODELS

from ..counter_rng import CounterRNG
from ..functional import add_noise, to_symmetric_range
from ..labels import build_label_map, check_labels
from .layer_recorder import LayerRecorder
from .shared_teacher import SharedTeacher
from .sources import get_alphas_cumprod, load_unet

NOISE_MODES = ('none', 'forward')
NORMS = ('range', 'student')


@MODELS.register_module()
class DiffusionTeacher(FullPrecisionBuffers, SharedTeacher):
    """A frozen UNet of diffusers that returns the outputs of some of its layers.

    It stays in evaluation mode, and :class:`TeacherMixin` keeps it out of the state dict, the optimiser and weight
    averages of the model that uses it. Its noise schedule stays in float32 when the model is cast.

    Args:
        source: See :func:`load_unet`.
        layers: ``[path, channels]`` of the recorded layers, such as ``[['mid_block.resnets.1.conv2', 256]]``; channels
            may be None. ``mid_block`` is the output of the bottleneck.
        noise_mode: ``'none'``: the input is the clean image, with the timestep, as in the released code; ``'forward'``:
            noise of the timestep is added first.
        teacher_norm: ``'range'``: images are scaled to [-1, 1]; ``'student'``: they keep the student's normalisation.
        scheduler: See :func:`load_unet`.
        label_map: For a class-conditional UNet, the teacher's class of each class of the dataset: a list,
            ``'identity'``, or a file with the WordNet ids of the dataset's classes, matched with those of ImageNet-1k.
        early_exit: Stop the forward pass after the last recorded layer.
        dtype: Data type of the UNet, such as ``'bfloat16'``; the features are float32 in any case.
        channels_last: Use the channels-last memory format.
        compile: Compile the blocks that contain no recorded layer.
        seed: Seed of the noise.

    Attributes:
        num_timesteps: Number of timesteps of the noise schedule.
        channels: Number of channels of each recorded layer.
        size: Height and width of the images that it was trained on.
        in_channels: Number of channels of these images.
        rng: Random numbers of the noise.

    Raises:
        UserError: If an option is unknown, the source cannot be loaded, or a layer does not exist.
    """

    full_precision = ('alphas_cumprod',)

    def __init__(
        self,
        source: str | dict[str, Any],
        layers: Sequence[Sequence[Any]],
        noise_mode: str = 'none',
        teacher_norm: str = 'range',
        scheduler: dict[str, Any] | None = None,
        label_map: Sequence[int] | str | None = None,
        early_exit: bool = True,
        dtype: str | None = None,
        channels_last: bool = False,
        compile: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for value, known, name in ((noise_mode, NOISE_MODES, 'noise_mode'), (teacher_norm, NORMS, 'teacher_norm')):
            if value not in known:
                raise UserError(f"{name}='{value}': use {' or '.join(known)}")
        if not layers:
            raise UserError('teacher: layers is empty; give at least one [path, channels]')
        noise_scheduler = self._load(source, scheduler)
        self.noise_mode, self.teacher_norm = noise_mode, teacher_norm
        self.num_timesteps = int(noise_scheduler.config.num_train_timesteps)
        self.register_buffer('alphas_cumprod', get_alphas_cumprod(noise_scheduler), persistent=False)
        classes = build_label_map(label_map, self.unet.config.num_class_embeds) if self.is_class_conditional else None
        self.register_buffer('label_map', classes, persistent=False)
        self.rng = CounterRNG(seed)
        self._has_warned_of_size = False
        self.requires_grad_(False).eval()
        self.recorder = LayerRecorder(self.unet, [layer[0] for layer in layers], early_exit)
        expected = [layer[1] if len(layer) > 1 else None for layer in layers]
        self.channels = self.recorder.dry_run(self.unet, lambda: self._run(*self._dummy_inputs()), expected)
        self._convert(dtype, channels_last, compile)

    def _load(self, source: str | dict[str, Any], scheduler: dict[str, Any] | None) -> Any:
        """Load the networks, set the size of the images, and return the noise scheduler."""
        self.unet, noise_scheduler = load_unet(source, scheduler)
        if hasattr(self.unet.config, 'cross_attention_dim'):
            raise UserError('a UNet2DConditionModel works on latents: use reprefine.LatentDiffusionTeacher')
        self.size, self.in_channels = unet_size(self.unet), self.unet.config.in_channels
        return noise_scheduler

    @property
    def is_class_conditional(self) -> bool:
        """Whether the UNet is conditioned on the class of the image."""
        return getattr(self.unet, 'class_embedding', None) is not None

    def _dummy_inputs(self) -> tuple[Tensor, Tensor, Tensor | None]:
        images = torch.zeros(1, self.unet.config.in_channels, *unet_size(self.unet))
        zero = torch.zeros(1, dtype=torch.long)
        return images, zero, zero if self.is_class_conditional else None

    def _convert(self, dtype: str | None, channels_last: bool, compile: bool) -> None:
        if dtype is not None:
            if not isinstance(getattr(torch, dtype, None), torch.dtype):
                raise UserError(f"teacher: dtype='{dtype}' is no data type of torch: use bfloat16, float16 or float32")
            nn.Module.to(self.unet, getattr(torch, dtype))  # that of diffusers warns of modules that no UNet has
        if channels_last:
            self.unet.to(memory_format=torch.channels_last)
        self.channels_last = channels_last
        if compile:
            for block in (*self.unet.down_blocks, *self.unet.up_blocks):
                if not self.recorder.records_within(block):
                    block.compile()

    def train(self, mode: bool = True) -> 'DiffusionTeacher':
        """Stay in evaluation mode."""
        return super().train(False)

    def prepare(self, inputs: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        """Convert the student's input to the teacher's.

        Args:
            inputs: Normalised RGB images ``[N, C, H, W]``.
            mean: Mean that the preprocessor subtracted from pixels in 0..255, ``[C, 1, 1]``.
            std: Standard deviation that it divided by, ``[C, 1, 1]``.

        Returns:
            Images in [-1, 1] of the teacher's size and number of channels.
        """
        x = to_symmetric_range(inputs.float(), mean, std) if self.teacher_norm == 'range' else inputs.float()
        if x.shape[-2:] != self.size:
            self._warn_size(x)
            x = F.interpolate(x, self.size, mode='bilinear', align_corners=False, antialias=True)
        if x.shape[1] == self.in_channels:
            return x
        return x.mean(dim=1, keepdim=True) if self.in_channels == 1 else x.expand(-1, self.in_channels, -1, -1)

    def _warn_size(self, x: Tensor) -> None:
        if not self._has_warned_of_size:
            given, wanted = ('x'.join(map(str, size)) for size in (x.shape[-2:], self.size))
            MMLogger.get_current_instance().warning(f'Images of {given} are resized to {wanted} for the teacher')
            self._has_warned_of_size = True

    @torch.no_grad()
    def forward(self, images: Tensor, timesteps: Tensor, labels: Tensor | None = None) -> list[Tensor]:
        """Return the features of the recorded layers.

        Args:
            images: From :meth:`prepare`, ``[N, C, H, W]``.
            timesteps: ``[N]``, each from 0 to ``num_timesteps - 1``.
            labels: Labels of the dataset ``[N]``, only for a class-conditional UNet.

        Returns:
            One map ``[N, C_l, H_l, W_l]`` for each layer, detached, float32.

        Raises:
            UserError: If labels are missing or not in ``label_map``.
        """
        images = self._encode(images)
        if self.noise_mode == 'forward':
            generator = self.rng.next_generator(images.device)
            noise = torch.randn(images.shape, generator=generator, device=images.device, dtype=images.dtype)
            images = add_noise(images, timesteps, self.alphas_cumprod, noise)
        if self.is_class_conditional:
            check_labels(labels, len(self.label_map), 'label_map')
            labels = self.label_map[labels]
        images = images.to(self.unet.dtype)
        if self.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        classes = labels if self.is_class_conditional else None
        feats = self.recorder.record(self.unet, lambda: self._run(images, timesteps, classes))
        return [feat.float() if feat.dtype in (torch.half, torch.bfloat16) else feat for feat in feats]

    def _encode(self, images: Tensor) -> Tensor:
        """Return the input of the UNet: the images, or the latents in a subclass."""
        return images

    def _run(self, images: Tensor, timesteps: Tensor, classes: Tensor | None) -> None:
        with torch.no_grad():
            self.unet(images, timesteps, class_labels=classes, return_dict=False)

    def fingerprint(self) -> str:
        """Return a hash of everything that determines the features of an image: weights, layers, noise, classes."""
        digest = hashlib.sha256(repr((list(self.recorder.paths), self.noise_mode, self.size)).encode())
        # Checkpoints and caches hold fingerprints that were computed with the buffer's former name.
        tensors = {'abar' if name == 'alphas_cumprod' else name: value for name, value in self.named_buffers()}
        if self.noise_mode == 'none':
            tensors.pop('abar')
        for name, value in {**self.state_dict(), **tensors}.items():
            digest.update(name.encode())
            digest.update(value.detach().cpu().flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:16]


def unet_size(unet: nn.Module) -> tuple[int, int]:
    """Return the height and width of the UNet's training samples; 32 if its config has no ``sample_size``."""
    size = unet.config.sample_size or 32
    return (size, size) if isinstance(size, int) else tuple(size)
