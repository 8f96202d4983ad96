"""The frozen diffusion UNet whose features the student learns."""

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

from ..functional import add_noise, to_unit_range
from ..labels import check_labels, label_table
from ..random_draws import Draws
from .layer_recorder import FeatureTap
from .shared_teacher import SharedInCopies
from .sources import load_unet, noise_table

NOISE_MODES = ('none', 'forward')
NORMS = ('range', 'student')


@MODELS.register_module()
class DiffusionTeacher(FullPrecisionBuffers, SharedInCopies):
    """A trained UNet of diffusers that is read at some of its layers and never changes.

    It stays in evaluation mode, and :class:`HoldsTeacher` keeps it out of the state dict, the optimiser and
    averages of the model that uses it. Its noise schedule stays in float32 when it is cast.

    Args:
        source: See :func:`load_unet`.
        layers: ``[path, channels]`` of the layers to read, as in ``[['mid_block.resnets.1.conv2', 256]]``; channels
            may be None. ``mid_block`` is the output of the bottleneck.
        noise_mode: ``'none'`` shows the clean image together with the timestep, as the released code does;
            ``'forward'`` diffuses it to the timestep first.
        teacher_norm: ``'range'`` turns images into [-1, 1]; ``'student'`` passes the student's normalised ones on.
        scheduler: See :func:`load_unet`.
        label_map: For a UNet conditioned on classes, the teacher's class of each class of the data set: a list,
            ``'identity'``, or a file with the WordNet ids of the data set's classes, matched with ImageNet-1k's.
        early_exit: Stop after the last layer that is read.
        dtype: Data type of the UNet, such as ``'bfloat16'``; the features come in float32 nevertheless.
        channels_last: Use that memory format.
        compile: Compile the blocks that hold no layer to read.
        seed: Seed of the noise.

    Attributes:
        num_timesteps: Number of steps of the noise schedule.
        channels: Width of each layer that is read.
        size: Height and width of the images that it was trained on.
        in_channels: Their channels.
        draws: The random numbers of the noise; their count is all that resuming needs.
    """

    full_precision = ('abar',)

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
        found = self._load(source, scheduler)
        self.noise_mode, self.teacher_norm = noise_mode, teacher_norm
        self.num_timesteps = int(found.config.num_train_timesteps)
        self.register_buffer('abar', noise_table(found), persistent=False)
        table = label_table(label_map, self.unet.config.num_class_embeds) if self.label_conditioned else None
        self.register_buffer('label_map', table, persistent=False)
        self.draws = Draws(seed)
        self._warned = False
        self.requires_grad_(False).eval()
        self.tap = FeatureTap(self.unet, layers, early_exit)
        self.channels = self.tap.probe(lambda: self._run(*self._dry_inputs()))
        self._optimise(dtype, channels_last, compile)

    def _load(self, source: str | dict[str, Any], scheduler: dict[str, Any] | None) -> Any:
        """Load the networks, find out the size of the images, and return the scheduler."""
        self.unet, found = load_unet(source, scheduler)
        if hasattr(self.unet.config, 'cross_attention_dim'):
            raise UserError('a UNet2DConditionModel works on latents: use reprefine.LatentDiffusionTeacher')
        self.size, self.in_channels = unet_size(self.unet), self.unet.config.in_channels
        return found

    @property
    def label_conditioned(self) -> bool:
        """Whether the UNet is told the class of the image."""
        return getattr(self.unet, 'class_embedding', None) is not None

    def _dry_inputs(self) -> tuple[Tensor, Tensor, Tensor | None]:
        images = torch.zeros(1, self.unet.config.in_channels, *unet_size(self.unet))
        zero = torch.zeros(1, dtype=torch.long)
        return images, zero, zero if self.label_conditioned else None

    def _optimise(self, dtype: str | None, channels_last: bool, compile: bool) -> None:
        if dtype is not None:
            nn.Module.to(self.unet, getattr(torch, dtype))  # diffusers' own warns of modules that no UNet has
        if channels_last:
            self.unet.to(memory_format=torch.channels_last)
        self.channels_last = channels_last
        if compile:
            for block in (*self.unet.down_blocks, *self.unet.up_blocks):
                if not self.tap.is_within(block):
                    block.compile()

    def train(self, mode: bool = True) -> 'DiffusionTeacher':
        """Stay in evaluation mode."""
        return super().train(False)

    def prepare(self, inputs: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        """Turn the student's input into the teacher's.

        Args:
            inputs: Normalised images ``[N, C, H, W]``, RGB.
            mean: What the preprocessor subtracted, in grey levels 0..255, ``[C, 1, 1]``.
            std: What it divided by, likewise.

        Returns:
            Images in [-1, 1] of the teacher's size and number of channels.
        """
        x = to_unit_range(inputs.float(), mean, std) if self.teacher_norm == 'range' else inputs.float()
        if x.shape[-2:] != self.size:
            self._warn_size(x)
            x = F.interpolate(x, self.size, mode='bilinear', align_corners=False, antialias=True)
        if x.shape[1] == self.in_channels:
            return x
        return x.mean(dim=1, keepdim=True) if self.in_channels == 1 else x.expand(-1, self.in_channels, -1, -1)

    def _warn_size(self, x: Tensor) -> None:
        if not self._warned:
            given, wanted = ('x'.join(map(str, size)) for size in (x.shape[-2:], self.size))
            MMLogger.get_current_instance().warning(f'The teacher sees images of {given} resized to its {wanted}')
            self._warned = True

    @torch.no_grad()
    def forward(self, images: Tensor, timesteps: Tensor, labels: Tensor | None = None) -> list[Tensor]:
        """Return the features of the layers.

        Args:
            images: From :meth:`prepare`, ``[N, C, H, W]``.
            timesteps: ``[N]``, each from 0 to ``num_timesteps - 1``.
            labels: Classes of the data set ``[N]``, needed by a UNet conditioned on classes only.

        Returns:
            One map ``[N, C_l, H_l, W_l]`` a layer, detached.

        Raises:
            UserError: If the labels are missing or not in ``label_map``.
        """
        images = self._encode(images)
        if self.noise_mode == 'forward':
            generator = self.draws.next(images.device)
            noise = torch.randn(images.shape, generator=generator, device=images.device, dtype=images.dtype)
            images = add_noise(images, timesteps, self.abar, noise)
        if self.label_conditioned:
            check_labels(labels, len(self.label_map), 'label_map')
            labels = self.label_map[labels]
        images = images.to(self.unet.dtype)
        if self.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        feats = self.tap.read(lambda: self._run(images, timesteps, labels if self.label_conditioned else None))
        return [f.float() if f.dtype in (torch.half, torch.bfloat16) else f for f in feats]

    def _encode(self, images: Tensor) -> Tensor:
        """Return what the UNet works on."""
        return images

    def _run(self, images: Tensor, timesteps: Tensor, labels: Tensor | None) -> None:
        with torch.no_grad():
            self.unet(images, timesteps, class_labels=labels, return_dict=False)

    def fingerprint(self) -> str:
        """Return a hash of all that decides the features of a prepared image: weights, layers, noise, classes."""
        digest = hashlib.sha256(repr((self.tap.paths, self.noise_mode, self.size)).encode())
        buffers = {name: value for name, value in self.named_buffers() if name != 'abar' or self.noise_mode != 'none'}
        for name, value in {**self.state_dict(), **buffers}.items():
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:16]


def unet_size(unet: nn.Module) -> tuple[int, int]:
    """Return height and width of what a UNet was trained on; 32 where it does not say."""
    size = unet.config.sample_size or 32
    return (size, size) if isinstance(size, int) else tuple(size)
