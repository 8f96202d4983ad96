"""MobileNetV2 for images of 32 or 64 pixels."""

from typing import Any

from mmpretrain.models import MobileNetV2

from reprefine.registry import MODELS


@MODELS.register_module()
class MobileNetV2CIFAR(MobileNetV2):
    """MobileNetV2 with a total stride of 8 instead of 32: the first convolution and the third stage keep the size.

    Args:
        frozen_stages: Number of frozen stages, as in mmpretrain; 8 also freezes the last convolution.
        kwargs: Further arguments of mmpretrain's ``MobileNetV2``.
    """

    # expansion ratio, output channels, number of blocks and stride of each stage
    arch_settings = [
        [1, 16, 1, 1],
        [6, 24, 2, 2],
        [6, 32, 3, 1],
        [6, 64, 4, 2],
        [6, 96, 3, 1],
        [6, 160, 3, 2],
        [6, 320, 1, 1],
    ]

    def __init__(self, frozen_stages: int = -1, **kwargs: Any):
        self.freezes_last = frozen_stages == len(self.arch_settings) + 1
        super().__init__(frozen_stages=frozen_stages - self.freezes_last, **kwargs)
        self.conv1.conv.stride = (1, 1)

    def _freeze_stages(self) -> None:
        super()._freeze_stages()
        if self.freezes_last:
            self.conv2.eval().requires_grad_(False)
