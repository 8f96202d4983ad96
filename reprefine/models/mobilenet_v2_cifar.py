"""MobileNetV2 for images of 32 or 64 pixels."""

from typing import Any

from mmpretrain.models import MobileNetV2

from reprefine.registry import MODELS


@MODELS.register_module()
class MobileNetV2CIFAR(MobileNetV2):
    """MobileNetV2 with a total stride of 8 instead of 32: the first convolution and the third stage keep the size.

    Args:
        kwargs: What mmpretrain's ``MobileNetV2`` takes.
    """

    # Expansion, output channels, blocks, stride of each stage.
    arch_settings = [
        [1, 16, 1, 1],
        [6, 24, 2, 2],
        [6, 32, 3, 1],
        [6, 64, 4, 2],
        [6, 96, 3, 1],
        [6, 160, 3, 2],
        [6, 320, 1, 1],
    ]

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.conv1.conv.stride = (1, 1)
