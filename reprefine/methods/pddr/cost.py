"""Parameters and FLOPs of networks with PD convolutions: training form, published count, deployed form.

The published FLOPs count: for a convolution its multiply-adds, plus one per output value if it has a bias; for a linear
layer its multiply-adds; for a batch norm two and for a ReLU module one per value; for a pooling module one per input
value. Functional operations are not counted.
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


class ParameterCounts(NamedTuple):
    """Parameter counts of a network with PD convolutions.

    Attributes:
        plain: Of the baseline, which PD-A equals.
        training: Of the training form.
        gates: Of the gates of PD-B.
        published: Of the published tables, ``plain + gates``, without the kernels of the branches.
        stored: Of the deployed form, with the kernels of the branches.
    """

    plain: int
    training: int
    gates: int
    published: int
    stored: int


def conv_parameters(conv: PDConv) -> ParameterCounts:
    """Count the parameters of a PD convolution; ``plain`` includes the replaced norm."""
    out, count, area = conv.out_channels, len(conv.branches), conv.kernel_size[0] * conv.kernel_size[1]
    kernel = out * (conv.in_channels // conv.groups) * area
    has_norm, has_bias = conv.replaced_norm is not None, conv.replaced_bias
    plain = kernel + 2 * out * has_norm + out * has_bias
    gates = count_parameters(conv.gate) if conv.mode == 'B' else 0
    copies = count if conv.mode == 'B' else 1
    training = count_parameters(conv.training_form() if conv.deploy else conv)
    return ParameterCounts(plain, training, gates, plain + gates, copies * (kernel + out) + gates)


def model_parameters(model: nn.Module) -> ParameterCounts:
    """Count the parameters of a network in training or deployed form."""
    convs = pd_convs(model).values()
    rest = count_parameters(model) - sum(count_parameters(conv) for conv in convs)
    columns = zip(ParameterCounts(rest, rest, 0, rest, rest), *(conv_parameters(conv) for conv in convs), strict=True)
    return ParameterCounts(*(sum(numbers) for numbers in columns))


def mixing_macs(model: nn.Module) -> int:
    """Return the multiply-adds of mixing the kernels of deployed PD-B, for one sample of any resolution."""
    return sum(
        len(conv.branches) * (conv.out_channels * conv.in_channels // conv.groups * conv.kernel_size[0] ** 2)
        for conv in pd_convs(model).values()
        if conv.mode == 'B'
    )


class FlopCounts(NamedTuple):
    """Cost of one forward pass.

    Attributes:
        macs: Multiply-adds of convolutions and linear layers.
        published: FLOPs by the rules of the published tables.
    """

    macs: int
    published: int


@torch.no_grad()
def count_flops(model: nn.Module, shape: tuple[int, int] = (224, 224)) -> FlopCounts:
    """Count the cost of a forward pass for one image. The model may be on the meta device.

    Args:
        model: Network that takes images ``[1, 3, H, W]``.
        shape: Height and width of the image in pixels.
    """
    macs = published = 0

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal macs, published
        module_macs = _macs(module, output)
        macs += module_macs
        published += module_macs + _extra_flops(module, inputs[0], output)

    types = (nn.Conv2d, nn.Linear, _BatchNorm, nn.ReLU, PDConv, Gate, *POOLS)
    hooks = [module.register_forward_hook(count) for module in model.modules() if isinstance(module, types)]
    compute = {conv: conv.compute for conv in pd_convs(model).values()}
    for conv in compute:
        conv.compute = 'branches'
    try:
        parameter = next(model.parameters())
        model(torch.zeros(1, 3, *shape, device=parameter.device, dtype=parameter.dtype))
    finally:
        for hook in hooks:
            hook.remove()
        for conv, value in compute.items():
            conv.compute = value
    return FlopCounts(macs, published)


def _macs(module: nn.Module, output: Tensor) -> int:
    if isinstance(module, nn.Conv2d):
        return module.weight[0].numel() * output.numel()
    if isinstance(module, nn.Linear):
        return module.in_features * output.numel()
    if isinstance(module, Gate):
        return len(output) * (module.fc1.weight.numel() + module.fc2.weight.numel())
    if _is_deployed_pdb(module):
        return module.reparam_weight[0, 0].numel() * output.numel()
    return 0


def _is_deployed_pdb(module: nn.Module) -> bool:
    return isinstance(module, PDConv) and module.deploy and module.mode == 'B'


def _extra_flops(module: nn.Module, x: Tensor, output: Tensor) -> int:
    if isinstance(module, _BatchNorm):
        return 2 * x.numel()
    if isinstance(module, POOLS):
        return x.numel()
    if isinstance(module, Gate):
        return len(output) * module.fc1.out_features  # the ReLU, which is a module in the released code
    has_bias = _is_deployed_pdb(module) or (isinstance(module, nn.Conv2d) and module.bias is not None)
    return output.numel() if has_bias or isinstance(module, nn.ReLU) else 0


class _LastFeatureMap(nn.Module):
    def forward(self, maps: tuple[Tensor, ...]) -> Tensor:
        return maps[-1]


def imagenet_resnet(depth: int, **options: object) -> nn.Sequential:
    """Return a ResNet classifier with 1000 classes on the meta device, in evaluation mode.

    Args:
        depth: 18, 34, 50, 101 or 152.
        **options: Further arguments of :class:`~.backbone.PDResNet`, such as ``pd_cfg``.
    """
    with torch.device('meta'):
        backbone = PDResNet(depth, host='mmdet', **options)  # mmpretrain's ResNet cannot be built on the meta device
        head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(backbone.feat_dim, 1000)
        return nn.Sequential(backbone, _LastFeatureMap(), *head).eval()


COLUMNS = (
    'parameters: training form',
    'as published',
    'stored',
    'MACs: training form',
    'deployed',
    'mixing kernels',
)


def cost_rows(depth: int, shape: tuple[int, int] = (224, 224), **pd_cfg: object) -> dict[str, tuple[int, ...]]:
    """Return the values of :data:`COLUMNS` for the ResNet (``plain``), PD-A and PD-B, by name.

    Args:
        depth: Depth of the ResNet.
        shape: Height and width of the image in pixels.
        **pd_cfg: Arguments of :class:`~.layers.conv.PDConv` except ``mode``.
    """
    rows = {}
    for name, cfg in (('plain', None), ('PD-A', dict(pd_cfg, mode='A')), ('PD-B', dict(pd_cfg, mode='B'))):
        model = imagenet_resnet(depth, pd_cfg=cfg)
        counts, trained = model_parameters(model), count_flops(model, shape).macs
        switch_to_deploy(model)
        macs = count_flops(model, shape).macs
        rows[name] = (counts.training, counts.published, counts.stored, trained, macs, mixing_macs(model))
    return rows
