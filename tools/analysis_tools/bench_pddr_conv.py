"""Measure training and deployment of PD convolutions relative to a reference; ratios of interleaved rounds."""

import argparse
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from reprefine.deploy import relative_difference
from reprefine.engine.cli.tool import run_as_tool
from reprefine.engine.cost.memory import LiveMemory
from reprefine.engine.cost.timing import Spread, interleave
from reprefine.methods.pddr import PDConv, PDResNet
from reprefine.methods.pddr.layers.lookup import pd_convs

EXAMPLE = """example:
  python tools/analysis_tools/bench_pddr_conv.py --what stages --mode A --repeats 7"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    parser.add_argument(
        '--what',
        choices=('stages', 'network', 'deploy'),
        default='stages',
        help='training of the four stage shapes, training of a network, or latency of a deployed one',
    )
    parser.add_argument('--mode', choices=('A', 'B'), default='A', help='PD-A or PD-B')
    parser.add_argument('--depth', type=int, default=18, help='depth of the network')
    parser.add_argument('--size', type=int, default=224, help='height and width of the images')
    parser.add_argument('--batch-size', type=int, default=16, help='images per batch (training)')
    parser.add_argument('--repeats', type=int, default=7, help='timed rounds')
    parser.add_argument('--compile', action='store_true', help='measure torch.compile too; needs a C++ compiler')


@dataclass(frozen=True)
class Variant:
    """Settings of a training step.

    Attributes:
        compute: Argument of :class:`~reprefine.methods.pddr.PDConv`.
        channels_last: Whether feature maps have the memory format channels last.
        bf16: Whether to train with automatic mixed precision in bfloat16.
        compiled: Whether to train through ``torch.compile``.
    """

    compute: str = 'branches'
    channels_last: bool = False
    bf16: bool = False
    compiled: bool = False

    def __str__(self) -> str:
        """Return the name for the table."""
        options = ('channels_last', 'bf16', 'compiled')
        return ' + '.join([self.compute, *(name.replace('_', ' ') for name in options if getattr(self, name))])


REFERENCE = Variant()
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
class TrainingCost:
    """Cost of a variant relative to :data:`REFERENCE`.

    Attributes:
        time: Ratio of the times of a forward and backward pass, one a round.
        memory: Ratio of the bytes saved for the backward pass.
        difference: Largest relative difference of the output or a gradient.
    """

    time: Spread
    memory: float
    difference: float


def main(args: argparse.Namespace) -> None:
    """Measure and print."""
    torch.manual_seed(0)
    print(f'{torch.get_num_threads()} threads, {args.repeats} rounds; median (interquartile range) of the ratios')
    if args.what == 'deploy':
        print_latency(args)
        return
    if args.what == 'stages':
        cases = stage_convs(args.mode, args.batch_size)
    else:
        cases = [network(args.mode, args.depth, args.batch_size, args.size)]
    print('case | variant | time | memory held | difference; relative to branches')
    for name, module, x in cases:
        for variant in (*VARIANTS, *([COMPILED] if args.compile else [])):
            cost = training_cost(module, x, variant, args.repeats)
            time = f'{cost.time.median:.2f} ({cost.time.iqr:.2f})'
            print(f'{name} | {variant} | {time} | {cost.memory:.2f} | {cost.difference:.0e}', flush=True)


def print_latency(args: argparse.Namespace) -> None:
    """Compare a deployed network with the baseline, at batch size 1."""
    _, baseline, x = network(None, args.depth, 1, args.size)
    name, deployed, _ = network(args.mode, args.depth, 1, args.size)
    deployed.switch_to_deploy()
    ratio = latency(deployed, baseline, x, args.repeats)
    print(f'{name} deployed | latency relative to plain, batch size 1 | {ratio.median:.3f} ({ratio.iqr:.3f})')


def stage_convs(mode: str, batch: int) -> Iterator[tuple[str, nn.Module, Tensor]]:
    """Yield name, convolution and input of the four stages of a ResNet-18 at 224 x 224 pixels."""
    for channels, size in ((64, 56), (128, 28), (256, 14), (512, 7)):
        conv = PDConv(channels, channels, 3, 1, 1, mode=mode)
        yield f'PD-{mode} {channels}x{size}x{size}', conv, torch.randn(batch, channels, size, size)


def network(mode: str | None, depth: int, batch: int, size: int) -> tuple[str, nn.Module, Tensor]:
    """Return name, backbone (the baseline if ``mode`` is None) and images ``[batch, 3, size, size]``."""
    net = PDResNet(depth, pd_cfg=mode and dict(mode=mode), out_indices=(3,), norm_eval=False)
    name = f'ResNet-{depth} {f"PD-{mode}" if mode else "plain"} {size}x{size}'
    return name, net, torch.randn(batch, 3, size, size)


def training_cost(module: nn.Module, x: Tensor, variant: Variant, repeats: int, warmup: int = 1) -> TrainingCost:
    """Compare a variant with :data:`REFERENCE`.

    Args:
        module: PD convolution or network; copied.
        x: Its input ``[N, I, H, W]``.
        variant: Settings of the training step.
        repeats: Timed rounds.
        warmup: Untimed rounds before them.
    """
    difference = output_difference(module, x, variant)
    steps = [TrainingStep(module, x, v) for v in (variant, REFERENCE)]
    memory = [step.saved_bytes() for step in steps]
    times = interleave(tuple(lambda step=step: step.run for step in steps), repeats, warmup)
    ratios = [a / b for a, b in zip(*times, strict=True)]
    return TrainingCost(Spread.of(ratios), memory[0] / memory[1], difference)


def output_difference(module: nn.Module, x: Tensor, variant: Variant) -> float:
    """Return the largest relative difference between a variant and :data:`REFERENCE` over output and gradients.

    In float64, since a deep network amplifies rounding errors; for mixed precision in float32.
    """
    dtype = torch.float32 if variant.bf16 else torch.float64
    module, x = copy.deepcopy(module).to(dtype), x.to(dtype)
    results, reference = (TrainingStep(module, x, v).results() for v in (variant, REFERENCE))
    return max(relative_difference(a, b) for a, b in zip(results, reference, strict=True))


class TrainingStep:
    """Forward and backward pass of a copy of a module.

    Args:
        module: The module.
        x: Its input ``[N, I, H, W]``.
        variant: Settings.
    """

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
        """Return the output, of a backbone that of its last stage."""
        with torch.autocast(self.x.device.type, torch.bfloat16, enabled=self.variant.bf16):
            y = self.call(self.x)
        return y[-1] if isinstance(y, tuple) else y

    def run(self) -> Tensor:
        """Run forward and backward pass and return the output."""
        y = self.forward()
        y.backward(torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape) / y.numel())
        return y

    def results(self) -> list[Tensor]:
        """Return the output and the gradients of the input and of all parameters."""
        y = self.run().detach().to(self.x.dtype)
        results = [y, self.x.grad, *(parameter.grad for parameter in self.module.parameters())]
        self.module.zero_grad()
        return results

    def saved_bytes(self) -> int:
        """Return the bytes that the forward pass saves for the backward pass."""
        with LiveMemory([self.x, *self.module.parameters(), *self.module.buffers()]) as memory:
            before = memory.live
            y = self.forward()
            saved = memory.live - before
            del y
        return saved


@torch.no_grad()
def latency(model: nn.Module, baseline: nn.Module, x: Tensor, repeats: int, warmup: int = 3) -> Spread:
    """Return the ratios of the times of two networks' forward passes without gradients, one a round.

    Args:
        model: Network to measure.
        baseline: Network to compare with.
        x: Images ``[N, 3, H, W]``.
        repeats: Timed rounds.
        warmup: Untimed rounds before them.
    """

    def prepare(model: nn.Module) -> Callable[[], Callable[[], object]]:
        model.eval()
        return lambda: torch.no_grad()(lambda: model(x))

    times = interleave((prepare(model), prepare(baseline)), repeats, warmup)
    return Spread.of([a / b for a, b in zip(*times, strict=True)])


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)
