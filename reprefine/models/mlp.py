"""A multilayer perceptron."""

from collections.abc import Sequence
from itertools import pairwise

from mmengine.model import BaseModule
from torch import Tensor, nn

from reprefine.registry import MODELS


@MODELS.register_module()
class MLP(BaseModule):
    """Linear layers with ReLU between them; the last layer gives the logits.

    Args:
        widths: Numbers of inputs, of units of each hidden layer, and of outputs.
        layer_cfg: Config of the layers, a type with ``in_features`` and ``out_features``; default ``nn.Linear``.
        init_cfg: Initialisation config of mmengine.
    """

    def __init__(self, widths: Sequence[int], layer_cfg: dict | None = None, init_cfg: dict | None = None):
        super().__init__(init_cfg)
        self.layers = nn.ModuleList(_layer(layer_cfg, *sizes) for sizes in pairwise(widths))

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """Return the logits (N, outputs) of images (N, C, H, W), or of any batch with that number of inputs."""
        x = x.flatten(1)
        for index, layer in enumerate(self.layers):
            x = layer(x.relu() if index else x)
        return (x,)


def _layer(cfg: dict | None, inputs: int, outputs: int) -> nn.Module:
    if cfg is None:
        return nn.Linear(inputs, outputs)
    return MODELS.build(dict(cfg, in_features=inputs, out_features=outputs))
