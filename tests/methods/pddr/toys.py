"""Small modules whose norms are as awkward as trained ones can be."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from reprefine.methods.pddr import PDConv


@torch.no_grad()
def randomise(module: nn.Module, seed: int = 0) -> nn.Module:
    """Give every norm random statistics and affine parameters, some of them negative, zero or with tiny variance."""
    generator = torch.Generator().manual_seed(seed)
    for norm in module.modules():
        if isinstance(norm, _BatchNorm):
            n = norm.num_features
            norm.weight.copy_(torch.randn(n, generator=generator))
            norm.bias.copy_(torch.randn(n, generator=generator))
            norm.running_mean.copy_(torch.randn(n, generator=generator))
            norm.running_var.copy_(torch.rand(n, generator=generator) + 0.1)
            norm.weight[0], norm.running_var[-1] = 0, 1e-4
    return module


def make_conv(in_channels: int = 8, out_channels: int = 16, dtype: torch.dtype = torch.float64, **kwargs) -> PDConv:
    """Return a randomised 3x3 PD convolution in evaluation mode that computes branch by branch."""
    torch.manual_seed(0)
    options = dict(padding=1, group_num=4, reduction=4, compute='branches') | kwargs
    conv = PDConv(in_channels, out_channels, options.pop('kernel_size', 3), **options)
    return randomise(conv).to(dtype).eval()


def image(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 1) -> Tensor:
    """Return random input."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)
