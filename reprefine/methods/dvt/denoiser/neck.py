"""The denoiser as a neck of any OpenMMLab model."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor

from reprefine.engine.errors import UserError
from reprefine.registry import MODELS

from .checkpoint import load_denoiser
from .network import FeatureDenoiser


@MODELS.register_module()
class DVTDenoiser(BaseModule):
    """Denoises one of the feature maps that a backbone gives and leaves the others as they are.

    A map has shape (B, C, h, w), with any h and w, and may come as the pair of itself and a class token, which is
    passed through. The features must be those the denoiser was trained for: by default the last block of the ViT,
    after the ViT's final norm.

    Args:
        in_channels: Channels C of the features.
        grid: Side, or rows and columns, of the grid the denoiser is trained at: 37 for 518 pixels and patches of 14,
            32 for 512 pixels and patches of 16.
        in_index: Which of the maps is denoised.
        num_outs: Give the denoised map this many times, for heads that read several inputs; None keeps the structure
            of the input.
        frozen: Keep the denoiser in eval mode and train none of its weights.
        checkpoint: File of a trained denoiser, which must fill this one exactly, but for what another method has added
            to its layers; read when training begins. Testing takes all weights from its own checkpoint.
        features: What features it gets, such as ``dict(model_id='vit_base_patch14_dinov2.lvd142m')``; a checkpoint that
            was trained on others is refused.
        init_cfg: Initialisation config of mmengine, instead of ``checkpoint``.
        **kwargs: Architecture, see :class:`~.denoiser.FeatureDenoiser`.
    """

    def __init__(
        self,
        in_channels: int,
        grid: int | Sequence[int] = 37,
        in_index: int = -1,
        num_outs: int | None = None,
        frozen: bool = True,
        checkpoint: str | None = None,
        features: dict[str, Any] | None = None,
        init_cfg: dict[str, Any] | None = None,
        **kwargs: Any,
    ):
        super().__init__(init_cfg)
        self.in_index = in_index
        self.num_outs = num_outs
        self.frozen = frozen
        self.checkpoint = checkpoint
        self.features = features
        self.denoiser = FeatureDenoiser(in_channels, grid, **kwargs)
        self.requires_grad_(not frozen)
        self.train()

    @staticmethod
    def baseline_config(cfg: dict) -> dict | None:
        """Return what a model without the denoiser has in its place, for :mod:`reprefine.engine.cost`: nothing.

        With ``num_outs`` the config itself: heads need the copies.
        """
        return cfg if cfg.get('num_outs') else None

    def init_weights(self) -> None:
        """Load what ``checkpoint`` or ``init_cfg`` name; with neither, the random weights stay.

        Raises:
            UserError: If the file cannot be read or does not fill the denoiser exactly.
        """
        super().init_weights()
        if self.checkpoint:
            load_denoiser(self.denoiser, self.checkpoint, self.features)

    def train(self, mode: bool = True) -> 'DVTDenoiser':
        """Switch to training, unless frozen."""
        return super().train(mode and not self.frozen)

    def forward(self, inputs: Tensor | Sequence[Any]) -> Tensor | tuple[Any, ...]:
        """Denoise the map at ``in_index``.

        Args:
            inputs: Maps (B, C, h, w), or pairs of a map and a class token (B, C); or one map on its own.

        Returns:
            The same structure, with the denoised map in its place; with ``num_outs`` a tuple of copies of it.

        Raises:
            UserError: If there is no map at ``in_index``, or it has other channels.
        """
        if isinstance(inputs, Tensor):
            return self._denoise(inputs)
        outputs = list(inputs)
        if not -len(outputs) <= self.in_index < len(outputs):
            raise UserError(f'DVTDenoiser: in_index is {self.in_index}, but the backbone gives {len(outputs)} outputs')
        outputs[self.in_index] = self._denoise_entry(outputs[self.in_index])
        return (outputs[self.in_index],) * self.num_outs if self.num_outs else tuple(outputs)

    def _denoise_entry(self, entry: Any) -> Any:
        if isinstance(entry, Tensor):
            return self._denoise(entry)
        features, *rest = entry
        return (self._denoise(features), *rest)

    def _denoise(self, features: Tensor) -> Tensor:
        if features.dim() != 4:
            raise UserError(
                f'DVTDenoiser: the backbone gives features of shape {list(features.shape)}, no map [B, C, h, w]: only '
                "patch features have places to denoise; a mmpretrain ViT gives them with out_type='featmap'"
            )
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            return self.denoiser(features)
