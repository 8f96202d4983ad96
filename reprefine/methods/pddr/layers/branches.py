"""The branches of a PD convolution."""

from collections.abc import Iterator

import torch
from mmcv.cnn import build_norm_layer
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from reprefine.engine.errors import UserError

from ..functional import Pair, affine_of_norm, expand_groups, expand_strips, fuse_conv_bn

BRANCHES = ('standard1', 'standard2', 'skeleton', 'group')  # in the order of the gate's outputs
# Parameter names of a PD layer in training or deployed form; read by reprefine.engine.checkpoints.layer_forms.
FORM_KEYS = r'(^|\.)(standard1\.(conv\.)?weight|reparam\.weight|reparam_weight)$'


class ConvNorm(nn.Module):
    """Convolution without bias, followed by batch norm.

    Args:
        in_channels: Input channels.
        out_channels: Output channels.
        kernel_size: Height and width in pixels.
        stride: Stride (height, width) in pixels.
        padding: Zero padding (height, width) in pixels.
        dilation: Dilation (height, width) in pixels.
        groups: Groups of the convolution.
        norm_cfg: Config of the norm layer.

    Raises:
        UserError: If the norm layer is not an affine batch norm with running statistics.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair,
        padding: Pair,
        dilation: Pair,
        groups: int,
        norm_cfg: dict,
    ):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias=False)
        nn.init.kaiming_normal_(self.conv.weight, mode='fan_out', nonlinearity='relu')
        self.bn = build_norm_layer(norm_cfg, out_channels)[1]
        if not isinstance(self.bn, _BatchNorm) or not self.bn.track_running_stats or not self.bn.affine:
            raise UserError(
                f'norm_cfg={norm_cfg} cannot be fused with a convolution: use an affine batch norm with running '
                "statistics, such as dict(type='BN') or dict(type='SyncBN')"
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[N, I, H, W]`` to ``BN(conv(x))``, ``[N, O, H', W']``."""
        return self.bn(self.conv(x))

    def norm_affine(self) -> tuple[Tensor, Tensor]:
        """Return scale and shift of the norm in evaluation mode, each ``[O]``."""
        bn = self.bn
        return affine_of_norm(bn.weight, bn.bias, bn.running_mean, bn.running_var, bn.eps)

    def conv_norms(self) -> Iterator['ConvNorm']:
        """Yield the :class:`ConvNorm` modules whose outputs the branch adds."""
        yield self

    def equivalent_kernel_bias(self, conv_groups: int) -> tuple[Tensor, Tensor]:
        """Return the equivalent kernel ``[O, I/g, k, k]`` and bias ``[O]`` in evaluation mode.

        Args:
            conv_groups: Groups ``g`` of that convolution.
        """
        weight, bias = fuse_conv_bn(self.conv.weight, *self.norm_affine())
        return expand_groups(weight, self.conv.groups, conv_groups), bias


class Skeleton(nn.Module):
    """Sum of a vertical and a horizontal strip convolution, each with its norm.

    Args:
        vertical: Convolution with kernel ``k x 1``.
        horizontal: Convolution with kernel ``1 x k``.
    """

    def __init__(self, vertical: ConvNorm, horizontal: ConvNorm):
        super().__init__()
        self.vertical = vertical
        self.horizontal = horizontal

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[N, I, H, W]`` to ``[N, O, H', W']``."""
        return self.vertical(x) + self.horizontal(x)

    def conv_norms(self) -> Iterator[ConvNorm]:
        """Yield the :class:`ConvNorm` modules whose outputs the branch adds."""
        yield self.vertical
        yield self.horizontal

    def equivalent_kernel_bias(self, conv_groups: int) -> tuple[Tensor, Tensor]:
        """Return the equivalent kernel ``[O, I/g, k, k]`` and bias ``[O]`` in evaluation mode.

        Args:
            conv_groups: Groups ``g`` of that convolution.
        """
        vertical, horizontal = (fuse_conv_bn(part.conv.weight, *part.norm_affine()) for part in self.conv_norms())
        return expand_strips(vertical[0], horizontal[0]), vertical[1] + horizontal[1]


@torch.no_grad()
def update_statistics(bn: nn.BatchNorm2d, mean: Tensor, variance: Tensor, count: float) -> None:
    """Update the running statistics of a batch norm as its forward pass does.

    Args:
        bn: The batch norm.
        mean: Batch mean ``[O]``.
        variance: Biased batch variance ``[O]``; the running variance is unbiased.
        count: Number of values per channel in the batch.
    """
    bn.num_batches_tracked += 1
    momentum = 1 / bn.num_batches_tracked if bn.momentum is None else bn.momentum
    bn.running_mean.lerp_(mean.to(bn.running_mean), momentum)
    bn.running_var.lerp_((variance * count / (count - 1)).to(bn.running_var), momentum)
