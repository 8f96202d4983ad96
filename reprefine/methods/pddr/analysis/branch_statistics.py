"""Weights and responses of the branches of one disentangled convolution."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from reprefine.engine.errors import UserError

from ..layers.conv import PDConv


def find_layer(model: nn.Module, name: str | None = None) -> tuple[str, PDConv]:
    """Return a disentangled convolution in training form and its full name.

    Args:
        model: Any model.
        name: The name, or its end, such as ``layer4.1.conv2``. Default: the last one.

    Raises:
        UserError: If there is none of that name, several, or its branches are folded.
    """
    layers = {key: module for key, module in model.named_modules() if isinstance(module, PDConv)}
    found = [key for key in layers if name is None or key == name or key.endswith(f'.{name}')]
    if not found or (name is not None and len(found) > 1):
        raise UserError(f'layer {name!r} matches {len(found)} of: {", ".join(layers) or "no PD convolution"}')
    if layers[found[-1]].deploy:
        raise UserError(f'{found[-1]} is folded: give a config and checkpoint of the training form')
    return found[-1], layers[found[-1]]


def branch_weights(conv: PDConv) -> dict[str, Tensor]:
    """Return the weights of each branch as they are trained, without the norm, flat; those of both strips together."""
    weights: dict[str, list[Tensor]] = {name: [] for name in conv.branches}
    for index, leaf in conv.leaves():
        weights[conv.branches[index]].append(leaf.conv.weight.detach().flatten())
    return {name: torch.cat(parts) for name, parts in weights.items()}


@torch.no_grad()
def branch_responses(run: Callable[[], object], conv: PDConv) -> dict[str, Tensor]:
    """Return the response of each branch, after its norm and before the gate, averaged over the positions.

    Args:
        run: Passes images through the model that ``conv`` belongs to, in evaluation mode.
        conv: A convolution in training form that ``run`` reaches once.

    Returns:
        For each branch (N, O).

    Raises:
        UserError: If ``run`` does not reach the convolution exactly once.
    """
    inputs = []
    handle = conv.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    try:
        run()
    finally:
        handle.remove()
    if len(inputs) != 1:
        raise UserError(f'the convolution runs {len(inputs)} times for one image: choose one that runs once')
    return {name: getattr(conv, name)(inputs[0]).mean((2, 3)) for name in conv.branches}
