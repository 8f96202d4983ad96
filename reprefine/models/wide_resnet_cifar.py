"""Wide residual networks for images of 32 or 64 pixels."""

from collections.abc import Sequence
from typing import Any

from mmengine.model import BaseModule
from torch import Tensor, nn

from reprefine.engine.errors import UserError
from reprefine.registry import MODELS


class PreActBlock(nn.Module):
    """Two 3x3 convolutions, each after its normalisation and activation (Zagoruyko and Komodakis 2016).

    Args:
        in_channels: Channels of the input.
        channels: Channels of the output.
        stride: Stride of the first convolution.
        dropout: Probability to drop a channel between the convolutions.
    """

    def __init__(self, in_channels: int, channels: int, stride: int, dropout: float):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.relu = nn.LeakyReLU(0.1)
        self.dropout = nn.Dropout2d(dropout)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, channels, H / stride, W / stride)."""
        y = self.conv1(self.relu(self.bn1(x)))
        y = self.conv2(self.dropout(self.relu(self.bn2(y))))
        return y + self.shortcut(x)


@MODELS.register_module()
class WideResNetCIFAR(BaseModule):
    """Pre-activation wide ResNet of three stages with strides 1, 2, 2: ``depth=28, widen_factor=10`` is WRN-28-10.

    Args:
        depth: Number of layers with weights, 6 n + 4 for n blocks per stage.
        widen_factor: Channels of the stages are 16, 32 and 64 times this.
        dropout: Probability to drop a channel inside a block.
        out_indices: Indices of the stages to return, 0 to 2. The last one is followed by norm and activation.
        init_cfg: Initialisation config of mmengine.

    Raises:
        UserError: If no number of blocks gives ``depth``.
    """

    def __init__(
        self,
        depth: int = 28,
        widen_factor: int = 2,
        dropout: float = 0.0,
        out_indices: Sequence[int] = (2,),
        init_cfg: Any = (
            dict(type='Kaiming', layer=['Conv2d']),
            dict(type='Constant', val=1, layer=['_BatchNorm']),
        ),
    ):
        super().__init__(list(init_cfg) if isinstance(init_cfg, tuple) else init_cfg)
        blocks, rest = divmod(depth - 4, 6)
        if rest or blocks < 1:
            raise UserError(f'depth={depth} of WideResNetCIFAR: use 6 n + 4 for n blocks per stage, such as 28')
        self.out_indices = tuple(out_indices)
        channels = [16, *(16 * widen_factor * 2**stage for stage in range(3))]
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        for stage in range(3):
            first = PreActBlock(channels[stage], channels[stage + 1], 1 if stage == 0 else 2, dropout)
            others = [PreActBlock(channels[stage + 1], channels[stage + 1], 1, dropout) for _ in range(blocks - 1)]
            self.add_module(f'layer{stage + 1}', nn.Sequential(first, *others))
        self.bn1 = nn.BatchNorm2d(channels[-1])
        self.relu = nn.LeakyReLU(0.1)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return features (N, C, H / s, W / s), s = 1, 2, 4, of stages ``out_indices`` for images (N, 3, H, W)."""
        x = self.conv1(x)
        outputs = []
        for stage in range(3):
            x = getattr(self, f'layer{stage + 1}')(x)
            if stage in self.out_indices:
                outputs.append(self.relu(self.bn1(x)) if stage == 2 else x)
        return tuple(outputs)
