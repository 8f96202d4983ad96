"""Loading of state dicts into PDConv: of its own form, of the training form, or of a convolution with batch norm."""

from collections.abc import Mapping, Set
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from reprefine.engine.errors import UserError

from .branches import BRANCHES

if TYPE_CHECKING:
    from .conv import PDConv

NORM_PREFIX = 'norm.'  # of the replaced norm's tensors within the state of the convolution
# First components of the state-dict keys of all forms. Other keys belong to modules that another method has added,
# which torch loads or reports.
CONV_KEYS = frozenset({*BRANCHES, 'gate', 'reparam', 'reparam_weight', 'reparam_bias', 'weight', 'bias', 'norm'})


def layer_state(state_dict: Mapping[str, Tensor], prefix: str = '', own: Set[str] = CONV_KEYS) -> dict[str, Tensor]:
    """Return the entries of one layer, with keys relative to it, without those of modules added by other methods.

    Args:
        state_dict: State dict of a module that contains the layer.
        prefix: Name of the layer in it, with a trailing dot; empty for the layer itself.
        own: First components of the keys of the layer.
    """
    state = {key[len(prefix) :]: value for key, value in state_dict.items() if key.startswith(prefix)}
    return {key: value for key, value in state.items() if key.partition('.')[0] in own}


def move_replaced_norms(module: nn.Module, state_dict: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Move the norms of a checkpoint of the base model to the PD convolutions that replace them.

    A load-state-dict pre-hook of the parent.

    Args:
        module: Parent of PD convolutions with a ``replaced_norm``.
        state_dict: State dict that is loaded; changed in place.
        prefix: Name of ``module`` in it, with a trailing dot.
    """
    for name, child in module.named_children():
        replaced_norm = getattr(child, 'replaced_norm', None)
        if replaced_norm is None or f'{prefix}{name}.weight' not in state_dict:
            continue
        start = f'{prefix}{replaced_norm}.'
        for key in [key for key in state_dict if key.startswith(start)]:
            state_dict[f'{prefix}{name}.{NORM_PREFIX}{key[len(start) :]}'] = state_dict.pop(key)


def convert_layer_state(conv: 'PDConv', state_dict: dict[str, Tensor], prefix: str) -> None:
    """Convert the entries of ``conv`` in a state dict to the form that ``conv`` has.

    A convolution of the base model becomes ``standard1``, and the other branches get zero output. A deployed module
    reparameterises the training form. Entries of modules added by other methods are not changed.

    Args:
        conv: The module that loads.
        state_dict: State dict that is loaded; changed in place.
        prefix: Name of ``conv`` in it, with a trailing dot.

    Raises:
        UserError: If the entries do not match ``conv``, such as a deployed form for the training form.
    """
    state = layer_state(state_dict, prefix)
    if not state:
        return
    for key in state:
        del state_dict[prefix + key]
    name = prefix.rstrip('.') or 'the convolution'
    if 'weight' in state:
        state = warm_start_state(conv.training_form() if conv.deploy else conv, state, name)
    if conv.deploy and any(key.partition('.')[0] in BRANCHES for key in state):
        state = _deployed_state(conv, state, name)
    _check_state(conv, state, name)
    state_dict.update({prefix + key: value for key, value in state.items()})


def warm_start_state(conv: 'PDConv', base: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """Return a state of the training form whose output equals that of a convolution and its norm.

    ``standard1`` gets their weights. The other branches keep their kernels, with zero gamma and beta; the gate is
    uniform.

    Args:
        conv: Module in training form.
        base: State of the convolution: ``weight``, optionally ``bias``, and the tensors of the norm below ``norm.``.
        name: Name of the module for error messages.

    Raises:
        UserError: If the norm is missing.
    """
    state = {key: value.clone() for key, value in layer_state(conv.state_dict()).items()}
    for key in state:
        if key.endswith(('.bn.weight', '.bn.bias')) or key.startswith('gate.fc2.'):
            state[key].zero_()
    state['standard1.conv.weight'] = base['weight']
    state.update(_replaced_norm_state(conv, base, name))
    if conv.mode == 'B':
        for key in ('standard1.bn.weight', 'standard1.bn.bias'):
            state[key] = state[key] * len(conv.branches)
    return state


def _replaced_norm_state(conv: 'PDConv', base: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """Return the norm of ``standard1`` that equals the replaced norm after the bias of the replaced convolution."""
    norm = {key.removeprefix(NORM_PREFIX): value for key, value in base.items() if key.startswith(NORM_PREFIX)}
    bias = base.get('bias', torch.zeros_like(base['weight'][:, 0, 0, 0]))
    if conv.replaced_norm is None:
        ones = torch.ones_like(bias)
        norm = dict(weight=ones, bias=bias, running_mean=0 * ones, running_var=(1 - conv.standard1.bn.eps) * ones)
    elif {'weight', 'bias', 'running_mean', 'running_var'} - norm.keys():
        raise UserError(
            f'{name}: the checkpoint has the convolution of the base model, but lacks its batch norm '
            f'{conv.replaced_norm}: use a checkpoint with both'
        )
    else:
        norm['running_mean'] = norm['running_mean'] - bias
    return {f'standard1.bn.{key}': value for key, value in norm.items()}


def _deployed_state(conv: 'PDConv', state: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    training_conv = conv.training_form()
    _check_state(training_conv, state, name)
    training_conv = training_conv.to(state['standard1.conv.weight'])
    training_conv.load_state_dict(state)
    training_conv.switch_to_deploy()
    return training_conv.state_dict()


def _check_state(conv: 'PDConv', state: dict[str, Tensor], name: str) -> None:
    """Raise unless a state has all tensors of the module and no other; mmengine would only warn."""
    state_dict = layer_state(conv.state_dict())
    own = {key: value for key, value in state_dict.items() if not key.endswith('num_batches_tracked')}
    if not conv.deploy and any(key.startswith('reparam') for key in state):
        raise UserError(
            f'{name} has the deployed form in the checkpoint, not the training form of the model: set deploy=True'
        )
    wrong = [key for key, value in own.items() if key not in state or state[key].shape != value.shape]
    wrong += [key for key in state if key not in own and not key.endswith('num_batches_tracked')]
    if wrong:
        raise UserError(
            f'{name}: the checkpoint does not match PD-{conv.mode} with {", ".join(conv.branches)}, keys that differ: '
            f'{", ".join(wrong[:4])}; use the config that the checkpoint was trained with'
        )
