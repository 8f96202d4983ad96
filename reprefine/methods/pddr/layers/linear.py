"""Fully connected layers that are trained as parallel copies."""

import torch
from torch import Tensor, nn

from reprefine.engine.errors import UserError
from reprefine.registry import MODELS

from ..functional import compose_map, gate_weights
from .baseline_modules import plain_layer, plain_linear
from .state_dict import own_part

HIDDEN = 64
# First parts of the names that a state dict may hold of either form, or of a plain layer.
OWN = frozenset({'standard1', 'standard2', 'reparam', 'fc1', 'fc2', 'weight', 'bias'})


@MODELS.register_module()
class PDLinear(nn.Module):
    """A linear layer trained as two dense ones, which are added (PD-A) or mixed by a gate (PD-B).

    The gate sees the whole input of the layer, vector by vector, and has 64 hidden units. Deployed, PD-A is one linear
    layer. PD-B is one of twice the width, whose halves are mixed: that is faster than two, but no smaller.

    Args:
        in_features: Inputs of the layer.
        out_features: Outputs of the layer.
        mode: ``'A'`` or ``'B'``.
        deploy: Build the deployed form; a checkpoint of the training form is folded when it loads.

    Raises:
        UserError: If the mode is another.
    """

    baseline_config = staticmethod(plain_layer)
    replaced_type = nn.Linear
    groups = 1

    def __init__(self, in_features: int, out_features: int, mode: str = 'A', deploy: bool = False):
        super().__init__()
        if mode not in ('A', 'B'):
            raise UserError(f"mode={mode!r}: use 'A' or 'B'")
        self.in_features, self.out_features, self.mode, self.deploy = in_features, out_features, mode, deploy
        if deploy:
            self.reparam = nn.Linear(in_features, out_features * (1 if mode == 'A' else 2))
        else:
            self.standard1 = nn.Linear(in_features, out_features)
            self.standard2 = nn.Linear(in_features, out_features)
        if mode == 'B':
            self.fc1, self.fc2 = nn.Linear(in_features, HIDDEN), nn.Linear(HIDDEN, 2)

    @property
    def out_channels(self) -> int:
        """Outputs of the layer, as other methods ask for them."""
        return self.out_features

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[..., in_features]`` to ``[..., out_features]``."""
        if self.deploy:
            outputs = self.reparam(x).unflatten(-1, (-1, self.out_features)).unbind(-2)
        else:
            outputs = self.standard1(x), self.standard2(x)
        if self.mode == 'A':
            return sum(outputs[1:], start=outputs[0])
        pi = self.gate(x).to(outputs[0].dtype)
        return pi[..., :1] * outputs[0] + pi[..., 1:] * outputs[1]

    def gate(self, x: Tensor) -> Tensor:
        """Return the weights ``[..., 2]`` of the two layers for the vectors ``[..., in_features]``."""
        return gate_weights(x, self.fc1.weight, self.fc1.bias, self.fc2.weight, self.fc2.bias)

    def _fold(self, first: Tensor, second: Tensor) -> Tensor:
        """Return what the deployed form holds of a parameter of both layers."""
        return first + second if self.mode == 'A' else torch.cat([first, second])

    def folded(self) -> tuple[Tensor, Tensor]:
        """Return weight ``[O, I]`` and bias ``[O]`` of the deployed layer; of PD-B, both layers' below each other."""
        if self.deploy:
            return self.reparam.weight, self.reparam.bias
        first, second = self.standard1, self.standard2
        return self._fold(first.weight, second.weight), self._fold(first.bias, second.bias)

    @torch.no_grad()
    def switch_to_deploy(self, *_: object) -> None:
        """Fold in place, keeping device, type and whether it is trained; a deployed layer stays as it is.

        Args:
            _: What mmpose hands to every part that it deploys, not needed here.
        """
        if self.deploy:
            return
        weight, bias = self.folded()
        self.reparam = nn.utils.skip_init(nn.Linear, self.in_features, len(bias), device=bias.device, dtype=bias.dtype)
        self.reparam.load_state_dict(dict(weight=weight, bias=bias))
        self.reparam.requires_grad_(self.standard1.weight.requires_grad)
        del self.standard1, self.standard2
        self.deploy = True

    def baseline_modules(self) -> dict[str, nn.Module]:
        """See :class:`reprefine.deploy.forms.HasBaselineModules`."""
        return plain_linear(self)

    @torch.no_grad()
    def map_output(self, weight: Tensor, shift: Tensor) -> None:
        """Fold a linear map of the output, ``y -> weight y + shift``, into the deployed form (PD-B: into both layers).

        Args:
            weight: Map ``[O, O]``.
            shift: ``[O]``.

        Raises:
            RuntimeError: If the layer is in training form.
        """
        if not self.deploy:
            raise RuntimeError('a map of the output folds into the deployed form only: call switch_to_deploy() first')
        halves = (tensor.unflatten(0, (-1, self.out_features)) for tensor in (self.reparam.weight, self.reparam.bias))
        mapped, moved = compose_map(*halves, weight, shift)
        self.reparam.weight.copy_(mapped.flatten(0, 1))
        self.reparam.bias.copy_(moved.flatten())

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: object) -> None:
        name = prefix.rstrip('.') or 'the layer'
        if self.deploy:
            for part in ('weight', 'bias'):
                names = [f'{prefix}{layer}.{part}' for layer in ('standard1', 'standard2')]
                if all(key in state_dict for key in names):
                    state_dict[f'{prefix}reparam.{part}'] = self._fold(*(state_dict.pop(key) for key in names))
        elif f'{prefix}reparam.weight' in state_dict:
            raise UserError(f'{name} is folded in the checkpoint and cannot be unfolded: load it with deploy=True')
        given = own_part(state_dict, prefix, OWN).keys()
        if wrong := given and given ^ own_part(self.state_dict(), own=OWN).keys():
            raise UserError(
                f'{name}: the checkpoint has another layer than the model (PD-{self.mode}); differing: '
                f'{", ".join(sorted(wrong)[:4])}'
            )
        super()._load_from_state_dict(state_dict, prefix, *args)
