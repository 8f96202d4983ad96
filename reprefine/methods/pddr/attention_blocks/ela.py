"""Efficient local attention (arXiv 2403.01123)."""

from torch import Tensor, nn

from reprefine.engine.errors import UserError
from reprefine.registry import MODELS

from .functional import axis_means, scale_axes

# Kernel size, channels of a group of the convolution, groups of the normalisation.
VARIANTS = {'T': (5, 1, 32), 'B': (7, 1, 16), 'S': (5, 8, 16), 'L': (7, 8, 16)}


@MODELS.register_module()
class ELABlock(nn.Module):
    """Scales each position by a gate of its row and one of its column.

    Both gates come from the same one-dimensional convolution and group normalisation.

    Args:
        in_channels: Channels of the feature map.
        variant: ``T``, ``B``, ``S`` or ``L``.

    Raises:
        UserError: If the variant is another, or the channels do not divide into its groups.
    """

    def __init__(self, in_channels: int, variant: str = 'B'):
        super().__init__()
        if variant not in VARIANTS:
            raise UserError(f'ELA has the variants {", ".join(VARIANTS)}, not {variant!r}')
        kernel_size, group_width, norm_groups = VARIANTS[variant]
        if in_channels % norm_groups:
            raise UserError(f'ELA-{variant} needs a multiple of {norm_groups} channels, not {in_channels}')
        groups = in_channels // group_width
        self.conv = nn.Conv1d(in_channels, in_channels, kernel_size, padding='same', groups=groups, bias=False)
        self.norm = nn.GroupNorm(norm_groups, in_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, H, W)."""
        rows, columns = (self.norm(self.conv(means)) for means in axis_means(x))
        return scale_axes(x, rows, columns)
