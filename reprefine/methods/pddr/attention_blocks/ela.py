"""ELA, efficient local attention (arXiv 2403.01123)."""

from torch import Tensor, nn

from reprefine.engine.errors import UserError
from reprefine.registry import MODELS

from .functional import axis_means, scale_axes

# Kernel size, channels per group of the convolution, groups of the group normalisation.
VARIANTS = {'T': (5, 1, 32), 'B': (7, 1, 16), 'S': (5, 8, 16), 'L': (7, 8, 16)}


@MODELS.register_module()
class ELABlock(nn.Module):
    """Attention over rows and over columns, by the same one-dimensional convolution and group normalisation.

    Args:
        in_channels: Channels of the feature map.
        variant: ``T``, ``B``, ``S`` or ``L``.

    Raises:
        UserError: If the variant is unknown, or the channels are not divisible by its groups.
    """

    def __init__(self, in_channels: int, variant: str = 'B'):
        super().__init__()
        if variant not in VARIANTS:
            raise UserError(f'variant={variant!r} of ELA is unknown: use one of {", ".join(VARIANTS)}')
        kernel_size, group_width, norm_groups = VARIANTS[variant]
        if in_channels % norm_groups:
            raise UserError(
                f'in_channels={in_channels} is not a multiple of {norm_groups}: use another variant than ELA-{variant}'
            )
        groups = in_channels // group_width
        self.conv = nn.Conv1d(in_channels, in_channels, kernel_size, padding='same', groups=groups, bias=False)
        self.norm = nn.GroupNorm(norm_groups, in_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[N, C, H, W]`` to ``[N, C, H, W]``."""
        rows, columns = (self.norm(self.conv(means)) for means in axis_means(x))
        return scale_axes(x, rows, columns)
