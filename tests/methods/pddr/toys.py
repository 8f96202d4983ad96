"""Small modules with random norms, for the tests of PDDR."""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from reprefine.methods.pddr import PDConv, PDLinear, PDResNet


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


class SmallClassifier(nn.Module):
    """A narrow PD-ResNet-18 with a linear head."""

    def __init__(self, mode: str):
        super().__init__()
        torch.manual_seed(0)
        pd_cfg = dict(mode=mode, group_num='auto')
        self.backbone = PDResNet(18, stem_channels=16, base_channels=16, pd_cfg=pd_cfg, host='mmpretrain')
        self.head = nn.Linear(128, 5)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.running_var, 0.5, 2)
                for tensor in (module.running_mean, module.weight, module.bias):
                    nn.init.normal_(tensor, 0.3, 0.3)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.backbone(x)[-1].mean((2, 3)))


def random_images(number: int = 3) -> Tensor:
    """Return images ``[number, 3, 64, 48]`` in float32."""
    return torch.randn(number, 3, 64, 48, generator=torch.Generator().manual_seed(1))


class Twice(nn.Module):
    """Runs a layer twice, another once on the way to the logits, and a third that the logits do not depend on."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer, self.once, self.aside = layer, nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)
        self.tokens, self.unused = nn.Flatten(2), nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.once(self.layer(self.layer(x)))
        self.aside(x)
        return self.tokens(x).mean(2)


class LinearMap(nn.Module):
    """A module that another method may add: a linear map of the output, ``y -> (1 + weight) y + shift``.

    Args:
        channels: Channels of the output.
        groups: Groups between which nothing is mixed.
    """

    def __init__(self, channels: int, groups: int):
        super().__init__()
        torch.manual_seed(3)
        self.weight = nn.Parameter(0.1 * torch.randn(channels, channels // groups))
        self.register_buffer('shift', torch.randn(channels))

    def full(self) -> Tensor:
        """Return the map ``[C, C/g]`` with the identity."""
        width = self.weight.shape[1]
        return self.weight + torch.eye(width).to(self.weight).repeat(len(self.weight) // width, 1)


class Attached:
    """Mixin of :func:`attach`, which maps the output of a layer."""

    def forward(self, x: Tensor) -> Tensor:
        y, weight = super().forward(x), self.denoiser.full().detach()
        if self.replaced_type is nn.Linear:
            return y @ weight.T + self.denoiser.shift
        return functional.conv2d(y, weight[:, :, None, None], self.denoiser.shift, groups=self.groups)

    def plain(self) -> nn.Module:
        """Return the deployed layer composed with the map."""
        layer = type(self).__mro__[2].__new__(type(self).__mro__[2])
        layer.__dict__.update(_shallow(self.__dict__))
        del layer._modules['denoiser']
        layer.switch_to_deploy()
        layer.map_output(self.denoiser.full(), self.denoiser.shift)
        return layer


def attach(layer: nn.Module) -> nn.Module:
    """Return a layer with the same parameters and a child module as DenoiseRep adds it."""
    kind = type(f'Attached{type(layer).__name__}', (Attached, type(layer)), {})
    clone = kind.__new__(kind)
    clone.__dict__.update(_shallow(layer.__dict__))
    like = next(layer.parameters())
    clone.denoiser = LinearMap(layer.out_channels, layer.groups).to(like)
    return clone


def attach_everywhere(model: nn.Module) -> nn.Module:
    """Attach to every PD layer of a model, in place, and return the model."""
    for name, layer in list(model.named_modules()):
        if isinstance(layer, (PDConv, PDLinear)):
            parent, _, attribute = name.rpartition('.')
            setattr(model.get_submodule(parent), attribute, attach(layer))
    return model


def _shallow(attributes: dict) -> dict:
    return {key: value.copy() if isinstance(value, dict) else value for key, value in attributes.items()}
