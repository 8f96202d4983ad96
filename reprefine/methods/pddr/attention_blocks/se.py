"""Squeeze and excitation (Hu et al. 2018)."""

from torch import Tensor, nn

from reprefine.registry import MODELS

from .functional import scale_channels


@MODELS.register_module()
class SEBlock(nn.Module):
    """Scales each channel by a gate computed from the means of all channels.

    The hidden width is exactly ``in_channels // reduction``, not rounded to a multiple of 8.

    Args:
        in_channels: Channels of the feature map.
        reduction: How many times narrower the hidden layer is.
    """

    def __init__(self, in_channels: int, reduction: int = 16):
        super().__init__()
        hidden = max(in_channels // reduction, 1)
        self.squeeze = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Linear(in_channels, hidden)
        self.relu = nn.ReLU(inplace=True)
        self.fc2 = nn.Linear(hidden, in_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, H, W)."""
        return scale_channels(x, self.fc2(self.relu(self.fc1(self.squeeze(x).flatten(1)))))
