"""The denoiser as a neck for OpenMMLab models."""

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
    """Denoises one of the feature maps of a backbone and passes the others through.

    A feature map has shape (B, C, h, w), with any h and w, and may be paired with a class token, which is passed
    through. The features must be those that the denoiser was trained on: by default those of the last block of the
    ViT, after its final norm.

    Args:
        in_channels: Channels C of the features.
        grid: Side, or rows and columns, of the token grid of the training: 37 for 518 pixels and patches of 14, 32 for
            512 pixels and patches of 16.
        in_index: Index of the feature map to denoise.
        num_outs: Number of copies of the denoised feature map to return, for heads with several inputs; None keeps the
            structure of the input.
        frozen: Keep the denoiser in eval mode and its parameters without gradients.
        checkpoint: Checkpoint of a trained denoiser, loaded by ``init_weights``. Its keys must match exactly, except
            for parameters that another method has added. Testing loads the checkpoint of the whole model instead.
        features: Metadata of the input features, such as ``dict(model_id='vit_base_patch14_dinov2.lvd142m')``; a
            checkpoint that was trained on other features raises an error.
        init_cfg: Initialisation config of mmengine, instead of ``checkpoint``.
        **kwargs: Architecture, see :class:`~.network.FeatureDenoiser`.
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
        """Return the config that replaces the neck in the baseline: None, which removes it.

        With ``num_outs`` the config itself, because the heads need the copies.
        """
        return cfg if cfg.get('num_outs') else None

    def init_weights(self) -> None:
        """Load the weights of ``checkpoint`` or ``init_cfg``.

        Raises:
            UserError: If the checkpoint cannot be read or does not match the denoiser exactly.
        """
        super().init_weights()
        if self.checkpoint:
            load_denoiser(self.denoiser, self.checkpoint, self.features)

    def train(self, mode: bool = True) -> 'DVTDenoiser':
        """Set training mode, unless frozen."""
        return super().train(mode and not self.frozen)

    def forward(self, inputs: Tensor | Sequence[Any]) -> Tensor | tuple[Any, ...]:
        """Denoise the feature map at ``in_index``.

        Args:
            inputs: Feature maps (B, C, h, w), or pairs of a feature map and a class token (B, C); or one feature map.

        Returns:
            The same structure with the denoised feature map; with ``num_outs`` a tuple of copies of it.

        Raises:
            UserError: If there is no feature map at ``in_index``, or its number of channels is not ``in_channels``.
        """
        if isinstance(inputs, Tensor):
            return self._denoise(inputs)
        outputs = list(inputs)
        if not -len(outputs) <= self.in_index < len(outputs):
            raise UserError(
                f'DVTDenoiser: in_index is {self.in_index}, but the backbone has {len(outputs)} outputs; '
                f'set it to {len(outputs) - 1} or less'
            )
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
                f'DVTDenoiser: the backbone returns features of shape {list(features.shape)}, not a feature map '
                "[B, C, h, w]; return patch features, with out_type='featmap' of a mmpretrain ViT"
            )
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            return self.denoiser(features)
