"""GE, gather-excite (Hu et al., NeurIPS 2018)."""

from torch import Tensor, nn
from torch.nn import functional as F

from reprefine.engine.errors import UserError
from reprefine.registry import MODELS

from .functional import can_downsample

# Number of depthwise convolutions with stride 2, by extent.
STEPS = {2: 1, 4: 2, 8: 3}


@MODELS.register_module()
class GEBlock(nn.Module):
    """Gates each position by features gathered from its neighbourhood, channel by channel.

    Args:
        in_channels: Channels of the feature map.
        extent: Extent ratio of the gather operator: 2, 4, 8, or 0 for global extent.
        parametric: Whether to gather with depthwise convolutions; otherwise with average pooling, without parameters.
        reduction: Reduction ratio of an MLP (1x1 convolutions) after the gather operator; None: no MLP.
        spatial_size: Height and width of the feature map, needed for parametric gathering with global extent.

    Raises:
        UserError: If the extent is unknown, or ``spatial_size`` is missing.
    """

    def __init__(
        self,
        in_channels: int,
        extent: int = 8,
        parametric: bool = True,
        reduction: int | None = None,
        spatial_size: tuple[int, int] | None = None,
    ):
        super().__init__()
        if extent not in (0, *STEPS):
            raise UserError(f'extent={extent} of GE is unknown: use 2, 4, 8 or 0 (global)')
        if parametric and extent == 0 and spatial_size is None:
            raise UserError('spatial_size=None: parametric GE with extent=0 needs height and width of the feature map')
        self.extent, self.parametric = extent, parametric
        self.steps = nn.ModuleList(_steps(in_channels, extent, spatial_size) if parametric else [])
        self.mlp = nn.Identity() if reduction is None else _mlp(in_channels, reduction)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[N, C, H, W]`` to ``[N, C, H, W]``."""
        logits = self.mlp(self.gather(x))
        return x * F.interpolate(logits, size=x.shape[2:], mode='nearest').sigmoid()

    def gather(self, x: Tensor) -> Tensor:
        """Return the gathered features ``[N, C, H', W']``; steps that would end in a single position are skipped."""
        if not self.parametric:
            height, width = x.shape[2:]
            size = (max(height // self.extent, 1), max(width // self.extent, 1)) if self.extent else 1
            return F.adaptive_avg_pool2d(x, size)
        for index, step in enumerate(self.steps, 1):
            if self.extent == 0 or can_downsample(*x.shape[2:]):
                x = step(x) if index == len(self.steps) else step(x).relu()
        return x


def _steps(channels: int, extent: int, spatial_size: tuple[int, int] | None) -> list[nn.Module]:
    """Return the depthwise convolutions with batch norm."""
    if extent == 0:
        return [_step(channels, kernel_size=spatial_size)]
    return [_step(channels, kernel_size=3, stride=2, padding=1) for _ in range(STEPS[extent])]


def _step(channels: int, **kwargs: int | tuple[int, int]) -> nn.Sequential:
    conv = nn.Conv2d(channels, channels, groups=channels, bias=False, **kwargs)
    return nn.Sequential(conv, nn.BatchNorm2d(channels))


def _mlp(channels: int, reduction: int) -> nn.Sequential:
    hidden = max(channels // reduction, 1)
    return nn.Sequential(
        nn.Conv2d(channels, hidden, 1, bias=False), nn.ReLU(inplace=True), nn.Conv2d(hidden, channels, 1, bias=False)
    )
