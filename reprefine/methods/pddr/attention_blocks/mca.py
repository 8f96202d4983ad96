"""MCA, moment channel attention (arXiv 2403.01713)."""

from torch import Tensor, nn

from reprefine.engine.errors import UserError
from reprefine.registry import MODELS

from .functional import mean_and_deviation, mean_and_skewness, scale_channels

# Moments and kernel size, by variant.
VARIANTS = {'E': (mean_and_deviation, 3), 'S': (mean_and_skewness, 7)}


@MODELS.register_module()
class MCABlock(nn.Module):
    """Channel attention from two moments of each channel and of its neighbouring channels.

    Args:
        in_channels: Channels of the feature map; not used.
        variant: ``E`` (mean and standard deviation, 7 parameters) or ``S`` (mean and skewness, 15 parameters).

    Raises:
        UserError: If the variant is unknown.
    """

    def __init__(self, in_channels: int, variant: str = 'E'):
        super().__init__()
        if variant not in VARIANTS:
            raise UserError(f'variant={variant!r} of MCA is unknown: use one of {", ".join(VARIANTS)}')
        self.moments, kernel_size = VARIANTS[variant]
        self.conv = nn.Conv1d(2, 1, kernel_size, padding=kernel_size // 2)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[N, C, H, W]`` to ``[N, C, H, W]``."""
        return scale_channels(x, self.conv(self.moments(x)).squeeze(1))
