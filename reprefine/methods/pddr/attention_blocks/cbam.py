"""Convolutional block attention (Woo et al. 2018)."""

from torch import Tensor, nn

from reprefine.registry import MODELS

from .functional import peak_and_mean, scale_channels


@MODELS.register_module()
class CBAMBlock(nn.Module):
    """Scales the channels by a gate of their means and maxima, then the positions by a gate over the channels.

    Args:
        in_channels: Channels of the feature map.
        reduction: How many times narrower the hidden layer of the channel gate is.
    """

    def __init__(self, in_channels: int, reduction: int = 16):
        super().__init__()
        hidden = max(in_channels // reduction, 1)
        self.pools = nn.ModuleList([nn.AdaptiveAvgPool2d(1), nn.AdaptiveMaxPool2d(1)])
        self.mlp = nn.Sequential(nn.Linear(in_channels, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, in_channels))
        self.conv = nn.Conv2d(2, 1, 7, padding=3, bias=False)
        self.norm = nn.BatchNorm2d(1, momentum=0.01)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, H, W)."""
        x = scale_channels(x, sum(self.mlp(pool(x).flatten(1)) for pool in self.pools))
        return x * self.norm(self.conv(peak_and_mean(x))).sigmoid()
