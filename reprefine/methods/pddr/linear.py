"""Fully connected layers that are trained as parallel copies."""

import torch
from torch import Tensor, nn

from reprefine.engine.errors import UserError
from reprefine.registry import MODELS

from .functional import gate_weights

HIDDEN = 64


@MODELS.register_module()
class PDLinear(nn.Module):
    """A linear layer trained as two dense ones, which are added (PD-A) or mixed by a gate for each sample (PD-B).

    The gate sees the whole input of the layer and has 64 hidden units. Deployed, PD-A is one linear layer. PD-B is one
    of twice the width, whose halves are mixed: that is faster than two, but no smaller.

    Args:
        in_features: Inputs of the layer.
        out_features: Outputs of the layer.
        mode: ``'A'`` or ``'B'``.
        deploy: Build the deployed form.

    Raises:
        ValueError: If the mode is another.
    """

    def __init__(self, in_features: int, out_features: int, mode: str = 'A', deploy: bool = False):
        super().__init__()
        if mode not in ('A', 'B'):
            raise ValueError(f"mode={mode!r}: use 'A' or 'B'")
        self.in_features, self.out_features, self.mode, self.deploy = in_features, out_features, mode, deploy
        if deploy:
            self.reparam = nn.Linear(in_features, out_features * (1 if mode == 'A' else 2))
        else:
            self.standard1 = nn.Linear(in_features, out_features)
            self.standard2 = nn.Linear(in_features, out_features)
        if mode == 'B':
            self.fc1, self.fc2 = nn.Linear(in_features, HIDDEN), nn.Linear(HIDDEN, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_features) to (N, out_features)."""
        if self.deploy:
            outputs = self.reparam(x).unflatten(-1, (-1, self.out_features)).unbind(-2)
        else:
            outputs = self.standard1(x), self.standard2(x)
        if self.mode == 'A':
            return sum(outputs[1:], start=outputs[0])
        pi = self.gate(x)
        return pi[:, :1] * outputs[0] + pi[:, 1:] * outputs[1]

    def gate(self, x: Tensor) -> Tensor:
        """Return the weights (N, 2) of the two layers for the samples (N, in_features)."""
        return gate_weights(x, self.fc1.weight, self.fc1.bias, self.fc2.weight, self.fc2.bias)

    @torch.no_grad()
    def switch_to_deploy(self, *_: object) -> None:
        """Fold in place, keeping device and type; a deployed layer stays as it is.

        Args:
            _: What mmpose hands to every part that it deploys, not needed here.
        """
        if self.deploy:
            return
        parts = self.standard1, self.standard2
        merge = sum if self.mode == 'A' else torch.cat
        weight, bias = merge([part.weight for part in parts]), merge([part.bias for part in parts])
        self.reparam = nn.utils.skip_init(nn.Linear, self.in_features, len(bias), device=bias.device, dtype=bias.dtype)
        self.reparam.load_state_dict(dict(weight=weight, bias=bias))
        del self.standard1, self.standard2
        self.deploy = True

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: object) -> None:
        other = 'standard1' if self.deploy else 'reparam'
        if f'{prefix}{other}.weight' in state_dict:
            raise UserError(f'{prefix}{other} of the checkpoint belongs to a layer with deploy={not self.deploy}')
        super()._load_from_state_dict(state_dict, prefix, *args)
