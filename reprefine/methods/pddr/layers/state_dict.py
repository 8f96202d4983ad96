"""State dicts that meet a disentangled convolution: its own form, the other form, or a plain convolution."""

from collections.abc import Mapping, Set
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from reprefine.engine.errors import UserError

from .branches import BRANCHES

if TYPE_CHECKING:
    from .conv import PDConv

NORM = 'norm.'  # where the norm of a plain host goes on its way into the convolution
# First parts of the names that a state dict may hold of any form. Others are those of modules that another method
# has attached, which torch loads, or reports, itself.
OWN = frozenset({*BRANCHES, 'gate', 'reparam', 'reparam_weight', 'reparam_bias', 'weight', 'bias', 'norm'})


def own_part(state_dict: Mapping[str, Tensor], prefix: str = '', own: Set[str] = OWN) -> dict[str, Tensor]:
    """Return the entries of one layer, named from the layer on, without those of modules that others attached to it.

    Args:
        state_dict: State dict of the layer or of what holds it.
        prefix: Name of the layer in it, with a final dot.
        own: First parts of the names that belong to the layer.
    """
    below = {key[len(prefix) :]: value for key, value in state_dict.items() if key.startswith(prefix)}
    return {key: value for key, value in below.items() if key.partition('.')[0] in own}


def move_host_norms(module: nn.Module, state_dict: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Give the norms of a plain checkpoint to the convolutions that replaced them. A hook for loading the parent.

    Args:
        module: A module with convolutions among its children that know their ``host_norm``.
        state_dict: State dict in loading; changed in place.
        prefix: Name of ``module`` in it, with a final dot.
    """
    for name, child in module.named_children():
        host_norm = getattr(child, 'host_norm', None)
        if host_norm is None or f'{prefix}{name}.weight' not in state_dict:
            continue
        start = f'{prefix}{host_norm}.'
        for key in [key for key in state_dict if key.startswith(start)]:
            state_dict[f'{prefix}{name}.{NORM}{key[len(start) :]}'] = state_dict.pop(key)


def fit_state(conv: 'PDConv', state_dict: dict[str, Tensor], prefix: str) -> None:
    """Turn the part of a state dict that belongs to ``conv`` into the form that ``conv`` has, or refuse it.

    A plain convolution becomes the first branch and the others start at zero output; branches in a deployed module
    are folded. Deployed weights cannot be unfolded. What belongs to modules attached by other methods stays as it is.

    Args:
        conv: The module that loads.
        state_dict: State dict in loading; changed in place.
        prefix: Name of ``conv`` in it, with a final dot.

    Raises:
        UserError: If loading would leave weights of ``conv`` as they are.
    """
    state = own_part(state_dict, prefix)
    if not state:
        return
    for key in state:
        del state_dict[prefix + key]
    name = prefix.rstrip('.') or 'the convolution'
    if 'weight' in state:
        state = neutral_state(conv.training_form() if conv.deploy else conv, state, name)
    if conv.deploy and any(key.partition('.')[0] in BRANCHES for key in state):
        state = _folded_state(conv, state, name)
    _check_state(conv, state, name)
    state_dict.update({prefix + key: value for key, value in state.items()})


def neutral_state(conv: 'PDConv', plain: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """Return a state of the training form with the output of a plain convolution and its norm.

    The other branches keep their kernels, but their norms start at zero; the gate starts uniform.

    Args:
        conv: Module in training form.
        plain: ``weight``, perhaps ``bias``, and the norm's tensors below ``norm.``.
        name: Name of the module for errors.

    Raises:
        UserError: If the norm is missing.
    """
    state = {key: value.clone() for key, value in own_part(conv.state_dict()).items()}
    for key in state:
        if key.endswith(('.bn.weight', '.bn.bias')) or key.startswith('gate.fc2.'):
            state[key].zero_()
    state['standard1.conv.weight'] = plain['weight']
    state.update(_host_norm(conv, plain, name))
    if conv.mode == 'B':
        for key in ('standard1.bn.weight', 'standard1.bn.bias'):
            state[key] = state[key] * len(conv.branches)
    return state


def _host_norm(conv: 'PDConv', plain: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """Return the norm of the first branch that stands for the host's norm and the bias of its convolution."""
    norm = {key.removeprefix(NORM): value for key, value in plain.items() if key.startswith(NORM)}
    bias = plain.get('bias', torch.zeros_like(plain['weight'][:, 0, 0, 0]))
    if conv.host_norm is None:
        ones = torch.ones_like(bias)
        norm = dict(weight=ones, bias=bias, running_mean=0 * ones, running_var=(1 - conv.standard1.bn.eps) * ones)
    elif {'weight', 'bias', 'running_mean', 'running_var'} - norm.keys():
        raise UserError(f'{name}: the checkpoint has the plain convolution, but not its batch norm {conv.host_norm}')
    else:
        norm['running_mean'] = norm['running_mean'] - bias
    return {f'standard1.bn.{key}': value for key, value in norm.items()}


def _folded_state(conv: 'PDConv', state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    twin = conv.training_form()
    _check_state(twin, state, name)
    twin = twin.to(state['standard1.conv.weight'])
    twin.load_state_dict(state)
    twin.switch_to_deploy()
    return twin.state_dict()


def _check_state(conv: 'PDConv', state: dict[str, Tensor], name: str) -> None:
    """Refuse a state that does not fill the module exactly; mmengine would go on with what is in it already."""
    state_dict = own_part(conv.state_dict())
    own = {key: value for key, value in state_dict.items() if not key.endswith('num_batches_tracked')}
    if not conv.deploy and any(key.startswith('reparam') for key in state):
        raise UserError(f'{name} is folded in the checkpoint and cannot be unfolded: load it with deploy=True')
    wrong = [key for key, value in own.items() if key not in state or state[key].shape != value.shape]
    wrong += [key for key in state if key not in own and not key.endswith('num_batches_tracked')]
    if wrong:
        raise UserError(
            f'{name}: the checkpoint has another PD convolution than the model (PD-{conv.mode}, '
            f'{", ".join(conv.branches)}); differing: {", ".join(wrong[:4])}'
        )
