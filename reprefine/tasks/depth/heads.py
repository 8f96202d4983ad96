"""A linear head that predicts depth from the features of a vision transformer."""

from collections.abc import Sequence
from typing import Any

import torch
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.utils import resize
from torch import Tensor

from reprefine.registry import MODELS

from .functional import depth_from_bins


@MODELS.register_module()
class LinearDepthHead(BaseDecodeHead):
    """One 1x1 convolution from patch features and class token to depth bins, for mmseg's ``DepthEstimator``.

    Its inputs are the pairs that ``TimmViT(with_cls_token=True)``, or a neck after it, returns.

    Args:
        in_channels: Channels C of the patch features and of the class token.
        num_bins: Number of depth bins.
        min_depth: Depth of the first bin in metres.
        max_depth: Depth of the last bin in metres.
        scale_factor: Factor by which the logits are upsampled before depth is computed.
        loss_decode: Configs of the losses.
        **kwargs: Other arguments of mmseg's ``BaseDecodeHead``.
    """

    def __init__(
        self,
        in_channels: int,
        num_bins: int = 256,
        min_depth: float = 1e-3,
        max_depth: float = 10.0,
        scale_factor: int = 4,
        loss_decode: Sequence[dict[str, Any]] = ({'type': 'reprefine.SigLoss'}, {'type': 'reprefine.GradientLoss'}),
        **kwargs: Any,
    ):
        super().__init__(
            in_channels,
            2 * in_channels,
            num_classes=num_bins,
            dropout_ratio=0.0,
            loss_decode=loss_decode,
            init_cfg=None,
            **kwargs,
        )
        self.num_classes = self.out_channels = 1  # to the estimator, the output is one depth map
        self.scale_factor = scale_factor
        self.register_buffer('bins', torch.linspace(min_depth, max_depth, num_bins), persistent=False)

    def forward(self, inputs: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """Return depth in metres, shape (B, 1, 4h, 4w).

        Args:
            inputs: Pairs of patch features (B, C, h, w) and class token (B, C).
        """
        features, cls_token = self._transform_inputs(inputs)
        features = torch.cat((features, cls_token[..., None, None].expand_as(features)), dim=1)
        # In bfloat16 the depth would be off by up to 0.8 %.
        with torch.autocast(features.device.type, enabled=False):
            # A 1x1 convolution commutes with interpolation and is cheaper on the small map.
            logits = resize(
                self.cls_seg(features.to(self.conv_seg.weight.dtype)),
                scale_factor=self.scale_factor,
                mode='bilinear',
                align_corners=self.align_corners,
            )
            return depth_from_bins(logits, self.bins)

    def loss_by_feat(self, depth: Tensor, batch_data_samples: Sequence[Any]) -> dict[str, Tensor]:
        """Return the losses of the depth, upsampled to the size of the ground truth.

        Args:
            depth: Output of ``forward``.
            batch_data_samples: Samples with ``gt_depth_map``.
        """
        target = torch.stack([sample.gt_depth_map.data for sample in batch_data_samples])
        depth = resize(depth, size=target.shape[2:], mode='bilinear', align_corners=self.align_corners)
        return {loss.loss_name: loss(depth, target) for loss in self.loss_decode}
