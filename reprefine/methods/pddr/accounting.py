"""Parameters and FLOPs by three ways of counting: the training form, the published tables, what is really stored.

The published FLOPs are multiply-adds by the rules of a common counting tool: a convolution counts its multiply-adds,
and one an output value if it has a bias; a batch norm two, a ReLU module one a value; a pooling module one for each
value of its input; a linear layer its multiply-adds. Functional operations count nothing.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from reprefine.engine.cost.counting import count_parameters

from .checkpoint import pd_convs
from .conv import PDConv

POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)


class Parameters(NamedTuple):
    """Parameters of a network with disentangled convolutions.

    Attributes:
        plain: The network with plain convolutions and norms; what a plain export of PD-A has.
        training: The training form.
        gates: The gates of PD-B alone.
        published: The number of the published tables: ``plain + gates``. It holds no branch kernels.
        stored: What must be stored to run the deployed form.
    """

    plain: int
    training: int
    gates: int
    published: int
    stored: int


def conv_parameters(conv: PDConv) -> Parameters:
    """Count one convolution, together with the norm that the branches' norms replace."""
    out, count, taps = conv.out_channels, len(conv.branches), conv.kernel_size[0] * conv.kernel_size[1]
    kernel = out * (conv.in_channels // conv.groups) * taps
    has_norm, has_bias = conv.host_norm is not None, conv.host_bias
    plain = kernel + 2 * out * has_norm + out * has_bias
    gates = count_parameters(conv.gate) if conv.mode == 'B' else 0
    copies = count if conv.mode == 'B' else 1
    training = count_parameters(conv.training_form() if conv.deploy else conv)
    return Parameters(plain, training, gates, plain + gates, copies * (kernel + out) + gates)


def model_parameters(model: nn.Module) -> Parameters:
    """Count a network in training or deployed form."""
    convs = pd_convs(model).values()
    rest = count_parameters(model) - sum(count_parameters(conv) for conv in convs)
    sums = [sum(numbers) for numbers in zip(*(conv_parameters(conv) for conv in convs), strict=True)] or [0] * 5
    counts = Parameters(*sums)
    return Parameters(rest + counts.plain, rest + counts.training, counts.gates, rest + counts.published, rest + counts.stored)


def mixing_macs(model: nn.Module) -> int:
    """Return the multiply-adds with which deployed PD-B mixes its kernels for one sample, at any resolution."""
    return sum(
        len(conv.branches) * (conv.out_channels * conv.in_channels // conv.groups * conv.kernel_size[0] ** 2)
        for conv in pd_convs(model).values()
        if conv.mode == 'B'
    )


class Flops(NamedTuple):
    """Multiply-adds of one pass.

    Attributes:
        macs: Convolutions and linear layers alone.
        published: By the rules of the published tables.
    """

    macs: int
    published: int


@torch.no_grad()
def count_flops(model: nn.Module, shape: tuple[int, int] = (224, 224)) -> Flops:
    """Count the multiply-adds for one image. The model may live on the meta device, where nothing is computed.

    Args:
        model: Network that maps ``[1, 3, H, W]`` to anything; its modules must be called as such.
        shape: Height and width in pixels.
    """
    macs = published = 0

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal macs, published
        if isinstance(module, nn.Conv2d):
            work = module.weight[0].numel() * output.numel()
            macs, published = macs + work, published + work + (output.numel() if module.bias is not None else 0)
        elif isinstance(module, nn.Linear):
            work = module.in_features * output.numel()
            macs, published = macs + work, published + work
        else:
            published += _other(module, inputs[0], output)

    kinds = (nn.Conv2d, nn.Linear, _BatchNorm, nn.ReLU, *POOLS)
    hooks = [module.register_forward_hook(count) for module in model.modules() if isinstance(module, kinds)]
    compute = {conv: conv.compute for conv in pd_convs(model).values()}
    for conv in compute:
        conv.compute = 'branches'
    try:
        parameter = next(model.parameters())
        model(torch.zeros(1, 3, *shape, device=parameter.device, dtype=parameter.dtype))
    finally:
        for hook in hooks:
            hook.remove()
        for conv, form in compute.items():
            conv.compute = form
    return Flops(macs, published)


def _other(module: nn.Module, x: Tensor, output: Tensor) -> int:
    if isinstance(module, _BatchNorm):
        return 2 * x.numel()
    return x.numel() if isinstance(module, POOLS) else output.numel()


def cost_table(build: Callable[[str | None], nn.Module], shape: tuple[int, int] = (224, 224)) -> list[tuple[str, ...]]:
    """Return the rows of a table of costs: header, plain network, PD-A, PD-B.

    Args:
        build: Makes the network in evaluation mode: plain (None), or training form of mode ``'A'`` or ``'B'``.
        shape: Height and width of the image in pixels.
    """
    header = ('network', 'training form', 'published count', 'stored deployed', 'MACs', 'mixing MACs')
    rows = [header]
    for mode in (None, 'A', 'B'):
        model = build(mode)
        counts, mixing = model_parameters(model), mixing_macs(model)
        plain = build(None)
        macs = count_flops(plain, shape).macs
        name = 'plain' if mode is None else f'PD-{mode}'
        numbers = (counts.training, counts.published, counts.stored, macs, mixing)
        rows.append((name, *(f'{number:,}' for number in numbers)))
    return rows
