"""Parameters and FLOPs by three ways of counting: the training form, the published tables, what is really stored.

The published FLOPs are multiply-adds by the rules of a common counting tool: a convolution counts its multiply-adds,
and one an output value if it has a bias; a batch norm two, a ReLU module one a value; a pooling module one for each
value of its input; a linear layer its multiply-adds. Functional operations count nothing.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from reprefine.deploy import switch_to_deploy
from reprefine.engine.cost.counting import count_parameters

from .backbone import PDResNet
from .layers.conv import PDConv
from .layers.gate import Gate
from .layers.lookup import pd_convs

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
    columns = zip(Parameters(rest, rest, 0, rest, rest), *(conv_parameters(conv) for conv in convs), strict=True)
    return Parameters(*(sum(numbers) for numbers in columns))


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
        work = _macs(module, output)
        macs += work
        published += work + _other(module, inputs[0], output)

    kinds = (nn.Conv2d, nn.Linear, _BatchNorm, nn.ReLU, PDConv, Gate, *POOLS)
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


def _macs(module: nn.Module, output: Tensor) -> int:
    if isinstance(module, nn.Conv2d):
        return module.weight[0].numel() * output.numel()
    if isinstance(module, nn.Linear):
        return module.in_features * output.numel()
    if isinstance(module, Gate):
        return len(output) * (module.fc1.weight.numel() + module.fc2.weight.numel())
    if _is_mixture(module):
        return module.reparam_weight[0, 0].numel() * output.numel()
    return 0


def _is_mixture(module: nn.Module) -> bool:
    return isinstance(module, PDConv) and module.deploy and module.mode == 'B'


def _other(module: nn.Module, x: Tensor, output: Tensor) -> int:
    if isinstance(module, _BatchNorm):
        return 2 * x.numel()
    if isinstance(module, POOLS):
        return x.numel()
    if isinstance(module, Gate):
        return len(output) * module.fc1.out_features  # its ReLU, a module in the released code
    has_bias = _is_mixture(module) or (isinstance(module, nn.Conv2d) and module.bias is not None)
    return output.numel() if has_bias or isinstance(module, nn.ReLU) else 0


class _Last(nn.Module):
    def forward(self, maps: tuple[Tensor, ...]) -> Tensor:
        return maps[-1]


def imagenet_resnet(depth: int, **options: object) -> nn.Sequential:
    """Return a ResNet with a classifier of 1000 classes, without values (on the meta device), in evaluation mode.

    Args:
        depth: 18, 34, 50, 101 or 152.
        **options: Further arguments of :class:`~.backbone.PDResNet`, such as ``pd_cfg``.
    """
    with torch.device('meta'):
        backbone = PDResNet(depth, host='mmdet', **options)  # mmpretrain's cannot be built without values
        head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(backbone.feat_dim, 1000)
        return nn.Sequential(backbone, _Last(), *head).eval()


COLUMNS = (
    'parameters: training form',
    'as published',
    'stored',
    'MACs: training form',
    'deployed',
    'mixing kernels',
)


def cost_rows(depth: int, shape: tuple[int, int] = (224, 224), **pd_cfg: object) -> dict[str, tuple[int, ...]]:
    """Return the values of :data:`COLUMNS` for the plain ResNet, PD-A and PD-B, by name.

    Args:
        depth: Depth of the ResNet.
        shape: Height and width of the image in pixels.
        **pd_cfg: Arguments of :class:`~.conv.PDConv` except ``mode``.
    """
    rows = {}
    for name, cfg in (('plain', None), ('PD-A', dict(pd_cfg, mode='A')), ('PD-B', dict(pd_cfg, mode='B'))):
        model = imagenet_resnet(depth, pd_cfg=cfg)
        counts, trained = model_parameters(model), count_flops(model, shape).macs
        switch_to_deploy(model)
        macs = count_flops(model, shape).macs
        rows[name] = (counts.training, counts.published, counts.stored, trained, macs, mixing_macs(model))
    return rows
