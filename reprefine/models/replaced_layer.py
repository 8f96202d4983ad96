"""What a layer that a method puts in the place of a plain one shows to other methods."""

from typing import Protocol, runtime_checkable

from torch import Tensor, nn


@runtime_checkable
class ReplacedLayer(Protocol):
    """A layer in the place of an ``nn.Linear`` or ``nn.Conv2d`` that consists of several.

    Other methods treat it as the one layer that it replaces: they see input and output, never the layers inside.

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
        """Take the deployed form, in place; nothing happens to a layer that has it already."""

    def map_output(self, weight: Tensor, shift: Tensor) -> None:
        """Fold a linear map of the output, ``y -> weight y + shift`` at every position, into the deployed form.

        Args:
            weight: Map ``[C, C / g]``, one block a group as the weight of a 1x1 convolution.
            shift: ``[C]``.

        Raises:
            RuntimeError: If the layer is in training form.
        """
