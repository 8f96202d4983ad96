"""PDLinear, the linear layer of PD-A and PD-B."""

import torch
from torch import Tensor, nn

from reprefine.engine.errors import UserError
from reprefine.registry import MODELS

from ..functional import compose_map, gate_weights
from .baseline_modules import default_layer_config, linear_baseline_modules
from .state_dict import layer_state

HIDDEN = 64
# First components of the state-dict keys of either form and of ``nn.Linear``.
LINEAR_KEYS = frozenset({'standard1', 'standard2', 'reparam', 'fc1', 'fc2', 'weight', 'bias'})


@MODELS.register_module()
class PDLinear(nn.Module):
    """A linear layer trained as two parallel ones, whose outputs are added (PD-A) or mixed by a gate (PD-B).

    The gate has 64 hidden units and reads every input vector. The deployed form of PD-A is one linear layer, that of
    PD-B one linear layer with ``2 out_features`` outputs, whose halves are mixed.

    Args:
        in_features: Size of the input.
        out_features: Size of the output.
        mode: ``'A'`` or ``'B'``.
        deploy: Whether to build the deployed form; it reparameterises a checkpoint of the training form on loading.

    Raises:
        UserError: If the mode is unknown.
    """

    baseline_config = staticmethod(default_layer_config)
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
        """Size of the output, see :class:`reprefine.models.replaced_layer.ReplacedLayer`."""
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
        """Map ``[..., in_features]`` to the weights ``[..., 2]`` of the two layers."""
        return gate_weights(x, self.fc1.weight, self.fc1.bias, self.fc2.weight, self.fc2.bias)

    def _combine(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the parameter of the deployed form for that of both layers."""
        return first + second if self.mode == 'A' else torch.cat([first, second])

    def equivalent_weight_bias(self) -> tuple[Tensor, Tensor]:
        """Return weight and bias of the deployed layer: ``[O, I]`` and ``[O]``, for PD-B ``[2 O, I]`` and ``[2 O]``."""
        if self.deploy:
            return self.reparam.weight, self.reparam.bias
        first, second = self.standard1, self.standard2
        return self._combine(first.weight, second.weight), self._combine(first.bias, second.bias)

    @torch.no_grad()
    def switch_to_deploy(self, *_: object) -> None:
        """Reparameterise in place, keeping device, dtype and ``requires_grad``; does nothing to a deployed layer.

        Args:
            *_: Arguments that mmpose passes, not used.
        """
        if self.deploy:
            return
        weight, bias = self.equivalent_weight_bias()
        self.reparam = nn.utils.skip_init(nn.Linear, self.in_features, len(bias), device=bias.device, dtype=bias.dtype)
        self.reparam.load_state_dict(dict(weight=weight, bias=bias))
        self.reparam.requires_grad_(self.standard1.weight.requires_grad)
        del self.standard1, self.standard2
        self.deploy = True

    def baseline_modules(self) -> dict[str, nn.Module]:
        """See :class:`reprefine.deploy.forms.HasBaselineModules`."""
        return linear_baseline_modules(self)

    @torch.no_grad()
    def map_output(self, weight: Tensor, shift: Tensor) -> None:
        """Compose the deployed form with a linear map of the output, ``y -> weight y + shift`` (PD-B: in both layers).

        Args:
            weight: Map ``[O, O]``.
            shift: Shift ``[O]``.

        Raises:
            RuntimeError: If the layer is in training form.
        """
        if not self.deploy:
            raise RuntimeError('map_output() needs the deployed form: call switch_to_deploy() first')
        weights, biases = (
            tensor.unflatten(0, (-1, self.out_features)) for tensor in (self.reparam.weight, self.reparam.bias)
        )
        mapped, mapped_biases = compose_map(weights, biases, weight, shift)
        self.reparam.weight.copy_(mapped.flatten(0, 1))
        self.reparam.bias.copy_(mapped_biases.flatten())

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: object) -> None:
        name = prefix.rstrip('.') or 'the layer'
        if self.deploy:
            for part in ('weight', 'bias'):
                names = [f'{prefix}{layer}.{part}' for layer in ('standard1', 'standard2')]
                if all(key in state_dict for key in names):
                    state_dict[f'{prefix}reparam.{part}'] = self._combine(*(state_dict.pop(key) for key in names))
        elif f'{prefix}reparam.weight' in state_dict:
            raise UserError(
                f'{name} has the deployed form in the checkpoint, not the training form of the model: set deploy=True'
            )
        loaded = layer_state(state_dict, prefix, LINEAR_KEYS).keys()
        if wrong := loaded and loaded ^ layer_state(self.state_dict(), own=LINEAR_KEYS).keys():
            raise UserError(
                f'{name}: the checkpoint does not match PD-{self.mode}, keys that differ: '
                f'{", ".join(sorted(wrong)[:4])}; use the config that the checkpoint was trained with'
            )
        super()._load_from_state_dict(state_dict, prefix, *args)
