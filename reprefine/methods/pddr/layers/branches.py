"""The branches of a PD convolution."""

from collections.abc import Iterator

import torch
from mmcv.cnn import build_norm_layer
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from reprefine.engine.errors import UserError

from ..functional import Pair, affine_of_norm, expand_groups, expand_strips, fold_norm

BRANCHES = ('standard1', 'standard2', 'skeleton', 'group')  # the order of the gate's outputs
# In a checkpoint, what tells a layer in training or deployed form; read by reprefine.engine.checkpoints.layer_forms.
FORM_KEYS = r'(^|\.)(standard1\.(conv\.)?weight|reparam\.weight|reparam_weight)$'


class ConvNorm(nn.Module):
    """Convolution without bias, and the batch norm that belongs to it.

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        kernel_size: Height and width in pixels.
        stride: In pixels.
        padding: In pixels.
        dilation: In pixels.
        groups: Groups of the convolution.
        norm_cfg: Config of the norm.

    Raises:
        UserError: If the norm is none that can be folded: a batch norm with tracked statistics.
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
                f'norm_cfg={norm_cfg} cannot be folded: branches need an affine batch norm with running statistics, '
                "such as dict(type='BN') or dict(type='SyncBN')"
            )

    def forward(self, x: Tensor) -> Tensor:
        """Return ``BN(conv(x))``, ``[N, O, H', W']``."""
        return self.bn(self.conv(x))

    def affine(self) -> tuple[Tensor, Tensor]:
        """Return scale and shift of the norm by its running statistics."""
        bn = self.bn
        return affine_of_norm(bn.weight, bn.bias, bn.running_mean, bn.running_var, bn.eps)

    def leaves(self) -> Iterator['ConvNorm']:
        """Yield the convolutions with norm that the branch adds up."""
        yield self

    def folded(self, host_groups: int) -> tuple[Tensor, Tensor]:
        """Return the kernel ``[O, I/g, k, k]`` and the bias ``[O]`` that equal the branch in evaluation mode."""
        weight, bias = fold_norm(self.conv.weight, *self.affine())
        return expand_groups(weight, self.conv.groups, host_groups), bias


class Skeleton(nn.Module):
    """A vertical and a horizontal strip, each with its norm; their outputs are added.

    Args:
        vertical: The strip of shape ``k x 1``.
        horizontal: The strip of shape ``1 x k``.
    """

    def __init__(self, vertical: ConvNorm, horizontal: ConvNorm):
        super().__init__()
        self.vertical = vertical
        self.horizontal = horizontal

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum of both strips, ``[N, O, H', W']``."""
        return self.vertical(x) + self.horizontal(x)

    def leaves(self) -> Iterator[ConvNorm]:
        """Yield the convolutions with norm that the branch adds up."""
        yield self.vertical
        yield self.horizontal

    def folded(self, host_groups: int) -> tuple[Tensor, Tensor]:
        """Return the kernel ``[O, I/g, k, k]`` and the bias ``[O]`` that equal the branch in evaluation mode."""
        vertical, horizontal = (fold_norm(leaf.conv.weight, *leaf.affine()) for leaf in self.leaves())
        return expand_strips(vertical[0], horizontal[0]), vertical[1] + horizontal[1]


@torch.no_grad()
def update_statistics(bn: nn.BatchNorm2d, mean: Tensor, variance: Tensor, count: float) -> None:
    """Move the running statistics of a norm as its own forward pass would.

    Args:
        bn: The norm.
        mean: Means of the batch ``[O]``.
        variance: Its biased variances ``[O]``; the running ones are unbiased.
        count: Values per channel in the batch.
    """
    bn.num_batches_tracked += 1
    momentum = 1 / bn.num_batches_tracked if bn.momentum is None else bn.momentum
    bn.running_mean.lerp_(mean.to(bn.running_mean), momentum)
    bn.running_var.lerp_((variance * count / (count - 1)).to(bn.running_var), momentum)
