"""Policy networks over timesteps, and the task head of the reward; both are discarded after the distillation."""

import torch
from torch import Tensor, nn

from reprefine.engine.errors import UserError
from reprefine.registry import MODELS


@MODELS.register_module()
class LeNetPolicy(nn.Sequential):
    """LeNet-5-like policy: two unpadded 5x5 convolutions, three from 64 pixels on, and three linear layers.

    Args:
        num_actions: Number of logits.
        size: Height and width of the images, at least 16.
        in_channels: Number of channels of the images.

    Raises:
        UserError: If the images are too small.
    """

    def __init__(self, num_actions: int = 1000, size: int = 32, in_channels: int = 3) -> None:
        if size < 16:
            raise UserError(f'LeNetPolicy: images of {size} pixels, but it needs at least 16: use MLPPolicy')
        layers: list[nn.Module] = []
        widths = [in_channels, 6, 16] + [16] * (size >= 64)
        for width, out in zip(widths, widths[1:], strict=False):
            layers += [nn.Conv2d(width, out, 5), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
            size = (size - 4) // 2
        super().__init__(*layers, nn.Flatten(), *_mlp(16 * size**2, 120, 84, num_actions))


@MODELS.register_module()
class AlexNetPolicy(nn.Sequential):
    """AlexNet-like policy for larger images.

    Args:
        num_actions: Number of logits.
        size: Height and width of the images, at least 24.
        in_channels: Number of channels of the images.

    Raises:
        UserError: If the images are too small.
    """

    def __init__(self, num_actions: int = 1000, size: int = 256, in_channels: int = 3) -> None:
        if size < 24:
            raise UserError(f'AlexNetPolicy: images of {size} pixels, but it needs at least 24: use LeNetPolicy')
        super().__init__(
            *_conv(in_channels, 64, 3),
            nn.MaxPool2d(3, 2),
            *_conv(64, 192, 5),
            nn.MaxPool2d(3, 2),
            *_conv(192, 384, 3),
            *_conv(384, 256, 3),
            *_conv(256, 256, 3),
            nn.MaxPool2d(3, 2),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            *_mlp(256, 256, num_actions),
        )


@MODELS.register_module()
class MLPPolicy(nn.Sequential):
    """MLP policy of three linear layers on the pixels.

    Args:
        num_actions: Number of logits.
        size: Height and width of the images.
        in_channels: Number of channels of the images.
        hidden: Dimension of the two hidden layers.
    """

    def __init__(self, num_actions: int = 1000, size: int = 32, in_channels: int = 3, hidden: int = 128) -> None:
        super().__init__(nn.Flatten(), *_mlp(in_channels * size**2, hidden, hidden, num_actions))


class TaskHead(nn.Sequential):
    """Classifier of three linear layers on the pooled feature of the teacher.

    Args:
        in_channels: Dimension of the feature.
        num_classes: Number of classes.
        hidden: Dimension of the two hidden layers; None: that of the feature.
    """

    def __init__(self, in_channels: int, num_classes: int, hidden: int | None = None) -> None:
        hidden = hidden or in_channels
        super().__init__(*_mlp(in_channels, hidden, hidden, num_classes))
        self.num_classes = num_classes


def action_log_probs(logits: Tensor, num_allowed: int) -> Tensor:
    """Return the log-probabilities ``[N, num_allowed]`` in float32 of the first actions of logits ``[N, A]``."""
    return torch.log_softmax(logits[:, :num_allowed].float(), dim=1)


def _conv(width: int, out: int, kernel: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(width, out, kernel, padding=1), nn.ReLU(inplace=True)


def _mlp(*widths: int) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for width, out in zip(widths, widths[1:], strict=False):
        layers += [nn.Linear(width, out), nn.ReLU(inplace=True)]
    return layers[:-1]
