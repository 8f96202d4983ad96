"""Gather and excite (Hu et al. 2018)."""

from torch import Tensor, nn
from torch.nn import functional as F

from reprefine.engine.errors import UserError
from reprefine.registry import MODELS

from .functional import is_gathered_further

# Depthwise convolutions of stride 2 that gather a window of so many positions.
STEPS = {2: 1, 4: 2, 8: 3}


@MODELS.register_module()
class GEBlock(nn.Module):
    """Gates each position by what lies around it, gathered channel by channel.

    Args:
        in_channels: Channels of the feature map.
        extent: Side of the window that is gathered: 2, 4, 8, or 0 for the whole map.
        parametric: Gather with depthwise convolutions; otherwise by averages, without parameters.
        reduction: If given, two 1x1 convolutions with a hidden layer so many times narrower follow the gathering.
        spatial_size: Height and width of the map, needed for parametric gathering of the whole map.

    Raises:
        UserError: If the extent is another, or ``spatial_size`` is missing.
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
            raise UserError(f'GE gathers an extent of 2, 4, 8 or 0 (the whole map), not {extent}')
        if parametric and extent == 0 and spatial_size is None:
            raise UserError('GE that gathers the whole map with a convolution needs spatial_size')
        self.extent, self.parametric = extent, parametric
        self.steps = nn.ModuleList(_steps(in_channels, extent, spatial_size) if parametric else [])
        self.mlp = nn.Identity() if reduction is None else _mlp(in_channels, reduction)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, H, W)."""
        logits = self.mlp(self.gather(x))
        return x * F.interpolate(logits, size=x.shape[2:], mode='nearest').sigmoid()

    def gather(self, x: Tensor) -> Tensor:
        """Return what the windows hold, (N, C, H', W'); a step that would leave a single position is left out."""
        if not self.parametric:
            height, width = x.shape[2:]
            size = (max(height // self.extent, 1), max(width // self.extent, 1)) if self.extent else 1
            return F.adaptive_avg_pool2d(x, size)
        for index, step in enumerate(self.steps, 1):
            if self.extent == 0 or is_gathered_further(*x.shape[2:]):
                x = step(x) if index == len(self.steps) else step(x).relu()
        return x


def _steps(channels: int, extent: int, spatial_size: tuple[int, int] | None) -> list[nn.Module]:
    """Return the gathering convolutions with their normalisations."""
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
