"""SE, squeeze-and-excitation (Hu et al., CVPR 2018)."""

from torch import Tensor, nn

from reprefine.registry import MODELS

from .functional import scale_channels


@MODELS.register_module()
class SEBlock(nn.Module):
    """Channel attention from the means of all channels.

    The hidden layer has ``in_channels // reduction`` units, not rounded to a multiple of 8 as in mmpretrain.

    Args:
        in_channels: Channels of the feature map.
        reduction: Reduction ratio of the hidden layer.
    """

    def __init__(self, in_channels: int, reduction: int = 16):
        super().__init__()
        hidden = max(in_channels // reduction, 1)
        self.squeeze = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Linear(in_channels, hidden)
        self.relu = nn.ReLU(inplace=True)
        self.fc2 = nn.Linear(hidden, in_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[N, C, H, W]`` to ``[N, C, H, W]``."""
        return scale_channels(x, self.fc2(self.relu(self.fc1(self.squeeze(x).flatten(1)))))
