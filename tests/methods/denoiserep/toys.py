"""Toy models, and an independent implementation of the paper's formulas, step by step in float64."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from torch import Tensor, nn

from reprefine.methods.denoiserep import DenoiseRep, convert


class Constants(NamedTuple):
    beta: float
    abar: float
    sigma: float
    c_x: float
    c_e: float


def constants(t: int, steps: int = 1000) -> Constants:
    beta = [1e-4 + (2e-3 - 1e-4) * i / (steps - 1) for i in range(steps)]
    abar = math.prod(1 - b for b in beta[: t + 1])
    alpha, sigma = 1 - beta[t], math.sqrt(1 - abar)
    return Constants(beta[t], abar, sigma, 1 / math.sqrt(alpha), (1 - alpha) / (sigma * math.sqrt(alpha)))


def time_vector(denoiser: nn.Module, t: int) -> Tensor:
    """tau = M2 GELU(M1 e(T) + m1) + m2, or zero."""
    if denoiser.time_embed is None:
        return torch.zeros(len(denoiser.weight), dtype=torch.float64)
    first, second = [m for m in denoiser.time_embed.modules() if isinstance(m, nn.Linear)]
    half = first.in_features // 2
    f = np.exp(-np.arange(half) * np.log(10000) / (half - 1))
    e = torch.from_numpy(np.concatenate([np.sin(t * f), np.cos(t * f)]))
    h = first.weight.double() @ e + first.bias.double()
    h = 0.5 * h * (1 + torch.erf(h / math.sqrt(2)))
    return (second.weight.double() @ h + second.bias.double()).detach()


def dense_predictor(denoiser: nn.Module) -> Tensor:
    """The predictor as a full block-diagonal ``C x C`` matrix."""
    channels, width = denoiser.weight.shape
    return torch.block_diag(*denoiser.weight.detach().double().split(width)).reshape(channels, channels)


def explicit_step(x: Tensor, denoiser: nn.Module, t: int, dim: int) -> Tensor:
    """x_hat = c_x x - c_e (D (x + tau) + d) along axis ``dim``."""
    c = constants(t)
    rows = x.double().movedim(dim, -1)
    eps_hat = (rows + time_vector(denoiser, t)) @ dense_predictor(denoiser).T
    if denoiser.bias is not None:
        eps_hat = eps_hat + denoiser.bias.detach().double()
    return (c.c_x * rows - c.c_e * eps_hat).movedim(-1, dim)


def explicit_linear(layer: nn.Linear, x: Tensor, t: int) -> Tensor:
    weight, bias = layer.weight.detach().double(), None if layer.bias is None else layer.bias.detach().double()
    if layer.side == 'input':
        return F.linear(explicit_step(x, layer.denoiser, t, -1), weight, bias)
    return explicit_step(F.linear(x.double(), weight, bias), layer.denoiser, t, -1)


def explicit_conv(layer: nn.Conv2d, x: Tensor, t: int) -> Tensor:
    """Side A: convolve, then denoise. Side B: pad, denoise the padded input, convolve without padding."""
    weight, bias = layer.weight.detach().double(), None if layer.bias is None else layer.bias.detach().double()
    dilation = layer.dilation
    if layer.padding == 'same':
        total = [d * (k - 1) for d, k in zip(dilation, layer.kernel_size, strict=True)]
        top, left = total[0] // 2, total[1] // 2
        pads = (left, total[1] - left, top, total[0] - top)
    else:
        pads = (layer.padding[1],) * 2 + (layer.padding[0],) * 2
    x = F.pad(x.double(), pads, mode='constant' if layer.padding_mode == 'zeros' else layer.padding_mode)
    if layer.side == 'input':
        x = explicit_step(x, layer.denoiser, t, 1)
    y = F.conv2d(x, weight, bias, layer.stride, 0, dilation, layer.groups)
    return y if layer.side == 'input' else explicit_step(y, layer.denoiser, t, 1)


def explicit_noise_loss(x: Tensor, noise: Tensor, layer: nn.Module, t: int, loss_type: str = 'l1+l2', dim: int = -1):
    """mean |eps - eps_hat| + mean (eps - eps_hat)^2 with eps_hat = D (x_t + tau) + d."""
    c, denoiser = constants(t), layer.denoiser
    noisy = math.sqrt(c.abar) * x.double() + c.sigma * noise.double()
    eps_hat = (noisy.movedim(dim, -1) + time_vector(denoiser, t)) @ dense_predictor(denoiser).T
    if denoiser.bias is not None:
        eps_hat = eps_hat + denoiser.bias.detach().double()
    error = noise.double().movedim(dim, -1) - eps_hat
    return {'l1': error.abs().mean(), 'l2': error.square().mean(), 'l1+l2': error.abs().mean() + error.square().mean()}[
        loss_type
    ]


class Mlp(nn.Module):
    def __init__(self, dim: int, hidden: int, drop: float) -> None:
        super().__init__()
        self.fc1, self.fc2, self.drop = nn.Linear(dim, hidden), nn.Linear(hidden, dim), nn.Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.drop(F.gelu(self.fc1(x))))


class Attention(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(dim, 3 * dim, bias=False), nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        return self.proj(F.scaled_dot_product_attention(q, k, v))


class Block(nn.Module):
    def __init__(self, dim: int, drop: float) -> None:
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(dim), Attention(dim)
        self.norm2, self.mlp = nn.LayerNorm(dim), Mlp(dim, 2 * dim, drop)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class TinyViT(nn.Module):
    """4 images of 3x8x8 -> 4 tokens; one BatchNorm on the pooled feature, as in a ReID neck."""

    def __init__(self, dim: int = 8, depth: int = 2, drop: float = 0.0, checkpoint: bool | None = None) -> None:
        super().__init__()
        self.patch_embed = nn.Conv2d(3, dim, 4, 4)
        self.blocks = nn.ModuleList(Block(dim, drop) for _ in range(depth))
        self.neck = nn.BatchNorm1d(dim)
        self.head = nn.Linear(dim, 5)
        self.checkpoint = checkpoint  # None, or the value of use_reentrant

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x).flatten(2).transpose(1, 2)
        for block in self.blocks:
            if self.checkpoint is None or not self.training:
                x = block(x)
            else:
                x = torch.utils.checkpoint.checkpoint(block, x, use_reentrant=self.checkpoint)
        return self.head(self.neck(x.mean(1)))


class TinyConvNet(nn.Module):
    """Plain, strided, grouped, depthwise, dilated and bias-free convolutions with BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.grouped = nn.Conv2d(8, 12, (3, 5), padding='same', groups=2, dilation=2, padding_mode='circular')
        self.head = nn.Conv2d(12, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.grouped(self.depthwise(self.stem(x)).relu()).relu()).mean((2, 3))


class ToyClassifier(BaseModel):
    """A model of OpenMMLab's interface: loss, predict and tensor modes, and a data preprocessor."""

    def __init__(self, backbone: nn.Module | None = None) -> None:
        super().__init__()
        self.backbone = backbone or TinyViT()

    def forward(self, inputs: Tensor, labels: Tensor | None = None, mode: str = 'tensor'):
        logits = self.backbone(inputs)
        if mode == 'loss':
            return {'loss_cls': F.cross_entropy(logits, labels)}
        return logits if mode == 'tensor' else list(logits.softmax(-1))


def images(count: int = 4, seed: int = 0, **options) -> Tensor:
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed), **options)


def build(factory, seed: int = 0, **options) -> nn.Module:
    torch.manual_seed(seed)
    return factory(**options)


def refined(backbone: Callable[[], nn.Module] = TinyViT, seed: int = 0, **options: Any) -> DenoiseRep:
    """A ToyClassifier that denoises; the options are those under ``denoise``."""
    return build(lambda: DenoiseRep(backbone(), base_type=ToyClassifier, denoise=options), seed)


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    return {key: value.detach().clone() for key, value in model.state_dict().items()}


def assert_same(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    """Bitwise."""
    assert list(first) == list(second)
    for key in first:
        assert torch.equal(first[key], second[key]), key


def converted(factory, include, seed=1, dtype=torch.float64, **options):
    """A converted model with initial predictors and changed norm statistics."""
    model = build(factory).to(dtype)
    model(images(dtype=dtype))
    torch.manual_seed(seed)
    convert(model, include, **options)
    return model
