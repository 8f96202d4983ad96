"""Weights and responses of the branches of one PD convolution."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from reprefine.engine.errors import UserError

from ..layers.conv import PDConv


def find_pd_conv(model: nn.Module, name: str | None = None) -> tuple[str, PDConv]:
    """Return the name and the module of a PD convolution in training form.

    Args:
        model: Any model.
        name: The name or a suffix of it, such as ``layer4.1.conv2``; None: the last PD convolution.

    Raises:
        UserError: If not exactly one matches, or it has the deployed form.
    """
    layers = {key: module for key, module in model.named_modules() if isinstance(module, PDConv)}
    found = [key for key in layers if name is None or key == name or key.endswith(f'.{name}')]
    if not found or (name is not None and len(found) > 1):
        raise UserError(
            f'layer {name!r} matches {len(found)} PD convolutions: give one of {", ".join(layers) or "none"}'
        )
    if layers[found[-1]].deploy:
        raise UserError(
            f'{found[-1]} has the deployed form, without branches: use the config and checkpoint of the training form'
        )
    return found[-1], layers[found[-1]]


def branch_weights(conv: PDConv) -> dict[str, Tensor]:
    """Return the raw weights of each branch (not fused with the norm), flattened; those of both strips concatenated."""
    weights: dict[str, list[Tensor]] = {name: [] for name in conv.branches}
    for index, part in conv.conv_norms():
        weights[conv.branches[index]].append(part.conv.weight.detach().flatten())
    return {name: torch.cat(parts) for name, parts in weights.items()}


@torch.no_grad()
def branch_responses(run: Callable[[], object], conv: PDConv) -> dict[str, Tensor]:
    """Return the global average of the output of each branch, after its norm and before the gate.

    Args:
        run: Runs the model that contains ``conv``, in evaluation mode.
        conv: PD convolution in training form.

    Returns:
        Responses ``[N, O]`` by branch.

    Raises:
        UserError: If ``run`` does not run the convolution exactly once.
    """
    inputs = []
    handle = conv.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    try:
        run()
    finally:
        handle.remove()
    if len(inputs) != 1:
        raise UserError(f'the convolution runs {len(inputs)} times in one forward pass: choose one that runs once')
    return {name: getattr(conv, name)(inputs[0]).mean((2, 3)) for name in conv.branches}
