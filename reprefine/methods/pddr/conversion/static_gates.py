"""Static PD-B: the same gate for every sample, an approximation with the cost of the baseline."""

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from reprefine.deploy import switch_to_deploy
from reprefine.engine.errors import UserError

from ..analysis.gate_statistics import mean_gates
from ..layers.conv import PDConv
from ..layers.lookup import pd_convs


def average_gate_model(model: nn.Module, images: Iterable[Tensor]) -> tuple[nn.Module, dict[str, Tensor]]:
    """Return a deployed copy of a model whose PD-B convolutions use their mean gate over some images.

    **It is an approximation**: the outputs differ from those of the model unless its gates are constant; evaluate both.
    Exact with static weights is ``execution='output'``, which takes ``J`` times the multiply-adds.

    Args:
        model: Model in evaluation mode, in training or deployed form.
        images: Preprocessed batches ``[N, 3, H, W]`` over which the gates are averaged.

    Returns:
        The copy, with deployed PD-A convolutions in place of PD-B ones, and the mean gate ``[J]`` by layer.

    Raises:
        UserError: If the model has no PD-B convolution, there are no images, or feature extraction does not run all
            PD-B convolutions.
    """
    static = switch_to_deploy(copy.deepcopy(model))
    gates, counts = mean_gates(static, ((batch, torch.zeros(len(batch), dtype=torch.long)) for batch in images), 1)
    convs = {name: conv for name, conv in pd_convs(static).items() if conv.mode == 'B'}
    if not counts.sum():
        raise UserError('the gates were averaged over 0 images: give at least one')
    if missing := sorted(convs.keys() - gates.keys()):
        raise UserError(
            f'gates are averaged in feature extraction, which does not run {", ".join(missing[:3])}: static gates '
            'need a model with PD-B in backbone and neck only'
        )
    means = {name: gate[0] for name, gate in gates.items()}
    for name, conv in convs.items():
        parent, _, attribute = name.rpartition('.')
        static_layer = average_gate_conv(conv, means[name])
        if not attribute:
            return static_layer, means
        setattr(static.get_submodule(parent), attribute, static_layer)
    return static, means


@torch.no_grad()
def average_gate_conv(conv: PDConv, gate: Tensor) -> PDConv:
    """Return a deployed PD-A convolution with the kernel and bias of a deployed PD-B one for the gate ``[J]``."""
    geometry = conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups, conv.replaced_bias
    options = dict(mode='A', branches=conv.branches, norm_cfg=conv.norm_cfg, deploy=True)
    static = PDConv(conv.in_channels, conv.out_channels, *geometry, **options)
    static.replaced_norm = conv.replaced_norm
    weights = gate.to(conv.reparam_weight)
    static.reparam.to(weights).load_state_dict(
        dict(
            weight=torch.einsum('j,joihw->oihw', weights, conv.reparam_weight),
            bias=weights @ conv.reparam_bias,
        )
    )
    return static.train(conv.training)
