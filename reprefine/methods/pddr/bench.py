"""What the ways to compute a disentangled network cost, each measured in turn with the branch-by-branch form."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from reprefine.deploy import relative_difference
from reprefine.engine.cost.memory import LiveMemory
from reprefine.engine.cost.timing import Spread, interleave

from .backbone import PDResNet
from .conversion.plain import pd_convs
from .layers.conv import PDConv


@dataclass(frozen=True)
class Variant:
    """A way to train.

    Attributes:
        compute: Argument of :class:`~.conv.PDConv`.
        channels_last: Memory format of the maps.
        bf16: Mixed precision by bfloat16.
        compiled: Through ``torch.compile``.
    """

    compute: str = 'branches'
    channels_last: bool = False
    bf16: bool = False
    compiled: bool = False

    def __str__(self) -> str:
        """Return the name for the table."""
        options = ('channels_last', 'bf16', 'compiled')
        return ' + '.join([self.compute, *(name.replace('_', ' ') for name in options if getattr(self, name))])


NAIVE = Variant()
VARIANTS = (
    Variant('fused'),
    Variant('lean'),
    Variant(channels_last=True),
    Variant('fused', channels_last=True),
    Variant('lean', channels_last=True),
    Variant(bf16=True),
    Variant('fused', channels_last=True, bf16=True),
)
COMPILED = Variant(compiled=True)


@dataclass(frozen=True)
class Cost:
    """Cost of a variant relative to the naive form.

    Attributes:
        time: Ratio of times of a forward and backward pass, round by round.
        memory: Ratio of the bytes held for the backward pass.
        difference: Largest relative difference of an output or gradient.
    """

    time: Spread
    memory: float
    difference: float


def stage_convs(mode: str, batch: int) -> Iterator[tuple[str, nn.Module, Tensor]]:
    """Yield name, convolution and input of the four stages of a ResNet-18 at 224 x 224."""
    for channels, size in ((64, 56), (128, 28), (256, 14), (512, 7)):
        conv = PDConv(channels, channels, 3, 1, 1, mode=mode)
        yield f'PD-{mode} {channels}x{size}x{size}', conv, torch.randn(batch, channels, size, size)


def network(mode: str | None, depth: int, batch: int, size: int) -> tuple[str, nn.Module, Tensor]:
    """Return name, backbone (plain if ``mode`` is None) and images."""
    net = PDResNet(depth, pd_cfg=mode and dict(mode=mode), out_indices=(3,), norm_eval=False)
    name = f'ResNet-{depth} {f"PD-{mode}" if mode else "plain"} {size}x{size}'
    return name, net, torch.randn(batch, 3, size, size)


def training_cost(module: nn.Module, x: Tensor, variant: Variant, repeats: int, warmup: int = 1) -> Cost:
    """Compare a variant with the naive form.

    Args:
        module: Disentangled convolution or network; copied.
        x: Its input ``[N, I, H, W]``.
        variant: How to train.
        repeats: Timed rounds.
        warmup: Rounds before them.
    """
    difference = _difference(module, x, variant)
    sides = [_Side(module, x, v) for v in (variant, NAIVE)]
    memory = [side.held() for side in sides]
    times = interleave(tuple(lambda side=side: side.step for side in sides), repeats, warmup)
    ratios = [a / b for a, b in zip(*times, strict=True)]
    return Cost(Spread.of(ratios), memory[0] / memory[1], difference)


def _difference(module: nn.Module, x: Tensor, variant: Variant) -> float:
    """Compare in float64, since a deep network magnifies rounding; mixed precision, which rounds itself, in float32."""
    dtype = torch.float32 if variant.bf16 else torch.float64
    module, x = copy.deepcopy(module).to(dtype), x.to(dtype)
    ours, theirs = (_Side(module, x, v).results() for v in (variant, NAIVE))
    return max(relative_difference(a, b) for a, b in zip(ours, theirs, strict=True))


class _Side:
    """A copy of the module that trains by one variant."""

    def __init__(self, module: nn.Module, x: Tensor, variant: Variant):
        self.module = copy.deepcopy(module)
        self.module.train()
        self.variant = variant
        for conv in pd_convs(self.module).values():
            conv.compute = variant.compute
        if isinstance(self.module, PDResNet):
            self.module.channels_last = variant.channels_last
        if variant.channels_last:
            self.module.to(memory_format=torch.channels_last)
        layout = torch.channels_last if variant.channels_last else torch.contiguous_format
        self.x = x.detach().clone(memory_format=layout).requires_grad_()
        self.call = torch.compile(self.module) if variant.compiled else self.module

    def forward(self) -> Tensor:
        with torch.autocast(self.x.device.type, torch.bfloat16, enabled=self.variant.bf16):
            y = self.call(self.x)
        return y[-1] if isinstance(y, tuple) else y

    def step(self) -> Tensor:
        y = self.forward()
        y.backward(_upstream(y))
        return y

    def results(self) -> list[Tensor]:
        y = self.step().detach().to(self.x.dtype)
        results = [y, self.x.grad, *(parameter.grad for parameter in self.module.parameters())]
        self.module.zero_grad()
        return results

    def held(self) -> int:
        with LiveMemory([self.x, *self.module.parameters(), *self.module.buffers()]) as memory:
            before = memory.live
            y = self.forward()
            held = memory.live - before
            del y
        return held


def _upstream(y: Tensor) -> Tensor:
    return torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape) / y.numel()


@torch.no_grad()
def latency(ours: nn.Module, plain: nn.Module, x: Tensor, repeats: int, warmup: int = 3) -> Spread:
    """Return the ratios of the times of two networks' forward passes without gradients, round by round.

    Args:
        ours: Network to judge.
        plain: Network to compare with.
        x: Images ``[N, 3, H, W]``.
        repeats: Timed rounds.
        warmup: Rounds before them.
    """

    def prepare(model: nn.Module) -> Callable[[], Callable[[], object]]:
        model.eval()
        return lambda: torch.no_grad()(lambda: model(x))

    times = interleave((prepare(ours), prepare(plain)), repeats, warmup)
    return Spread.of([a / b for a, b in zip(*times, strict=True)])
