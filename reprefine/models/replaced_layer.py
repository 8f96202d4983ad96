"""Protocol of layers that replace an ``nn.Linear`` or ``nn.Conv2d``, through which other methods use them."""

from typing import Protocol, runtime_checkable

from torch import Tensor, nn


@runtime_checkable
class ReplacedLayer(Protocol):
    """A layer that replaces an ``nn.Linear`` or ``nn.Conv2d`` and consists of several layers.

    Other methods treat it as the one layer that it replaces: they use its input and output, never its inner layers.

    Attributes:
        replaced_type: Type of the layer that it replaces, ``nn.Linear`` (channels in the last dimension of the output)
            or ``nn.Conv2d`` (in the second).
        out_channels: Channels ``C`` of the output.
        groups: Groups ``g`` of the convolution that is replaced, 1 for a linear layer.
    """

    replaced_type: type[nn.Module]
    out_channels: int
    groups: int

    def switch_to_deploy(self) -> None:
        """Take the deployed form, in place; idempotent."""

    def map_output(self, weight: Tensor, shift: Tensor) -> None:
        """Merge a linear map of the output, ``y -> weight y + shift`` at every position, into the deployed form.

        Args:
            weight: Matrix ``[C, C / g]``, one block per group, like the weight of a 1x1 convolution.
            shift: Vector ``[C]``.

        Raises:
            RuntimeError: If the layer is in training form.
        """
