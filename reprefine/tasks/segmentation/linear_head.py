"""A linear classifier of each position of a feature map."""

from collections.abc import Sequence
from typing import Any

from mmcv.cnn import build_norm_layer
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import Tensor

from reprefine.registry import MODELS


@MODELS.register_module()
class LinearHead(BaseDecodeHead):
    """Batch normalisation and a 1x1 convolution, the usual probe of frozen features.

    Args:
        in_channels: Channels of the feature map.
        norm_cfg: Config of the normalisation layer; SyncBN if None.
        dropout_ratio: Share of the channels dropped in training.
        **kwargs: Other arguments of mmseg's ``BaseDecodeHead``, such as ``num_classes``.
    """

    def __init__(
        self,
        in_channels: int,
        norm_cfg: dict[str, Any] | None = None,
        dropout_ratio: float = 0.0,
        **kwargs: Any,
    ):
        norm_cfg = norm_cfg or dict(type='SyncBN')
        super().__init__(in_channels, in_channels, norm_cfg=norm_cfg, dropout_ratio=dropout_ratio, **kwargs)
        self.norm = build_norm_layer(norm_cfg, in_channels)[1]

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Return the logits (B, num_classes, h, w) of the selected map (B, C, h, w)."""
        return self.cls_seg(self.norm(self._transform_inputs(inputs)))
