"""CBAM, convolutional block attention module (Woo et al., ECCV 2018)."""

from torch import Tensor, nn

from reprefine.registry import MODELS

from .functional import max_and_mean, scale_channels


@MODELS.register_module()
class CBAMBlock(nn.Module):
    """Channel attention from means and maxima of the channels, followed by spatial attention.

    Args:
        in_channels: Channels of the feature map.
        reduction: Reduction ratio of the hidden layer of the channel attention.
    """

    def __init__(self, in_channels: int, reduction: int = 16):
        super().__init__()
        hidden = max(in_channels // reduction, 1)
        self.pools = nn.ModuleList([nn.AdaptiveAvgPool2d(1), nn.AdaptiveMaxPool2d(1)])
        self.mlp = nn.Sequential(nn.Linear(in_channels, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, in_channels))
        self.conv = nn.Conv2d(2, 1, 7, padding=3, bias=False)
        self.norm = nn.BatchNorm2d(1, momentum=0.01)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[N, C, H, W]`` to ``[N, C, H, W]``."""
        x = scale_channels(x, sum(self.mlp(pool(x).flatten(1)) for pool in self.pools))
        return x * self.norm(self.conv(max_and_mean(x))).sigmoid()
