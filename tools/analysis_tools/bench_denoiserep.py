"""Measure the training time of DenoiseRep relative to the baseline: its phases, and its closed-form fit.

A timm ViT on random images; the compared functions alternate in this process.
"""

import argparse
import contextlib
from collections.abc import Callable

import timm
import torch
import torch.nn.functional as F
from torch import nn

from reprefine.engine.cli.tool import run_as_tool
from reprefine.engine.cost.timing import Spread, Workload, interleave
from reprefine.methods.denoiserep import (
    collect_moments,
    convert,
    denoise_layers,
    expected_noise_losses,
    fit_closed_form,
    noise_loss,
    set_phase,
)
from reprefine.visualization.results import markdown_table

EXAMPLE = """example:
  python tools/analysis_tools/bench_denoiserep.py --model vit_tiny_patch16_224 --depth 6 --batch-size 64 --threads 2"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    parser.add_argument('--model', default='vit_tiny_patch16_224', help='name of a timm ViT')
    parser.add_argument('--depth', type=int, default=6, help='its number of blocks')
    parser.add_argument('--include', default='mlp', help='layers to denoise, a preset or a regular expression')
    parser.add_argument('--batch-size', type=int, default=32, help='images per batch')
    parser.add_argument('--fit-batches', type=int, default=20, help='batches for the error of a fit to some tokens')
    parser.add_argument('--repeats', type=int, default=10, help='timed rounds')
    parser.add_argument('--threads', type=int, default=2, help='threads of torch')
    parser.add_argument('--device', default='cpu', help='torch device, such as cuda:0')


class Benchmark:
    """The baseline, its data, and the comparisons with it.

    Args:
        args: Arguments of the tool.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.base = self.build()
        size = self.base.patch_embed.img_size
        self.images = torch.randn(args.batch_size, 3, *size, device=args.device)
        self.labels = torch.randint(0, 1000, (args.batch_size,), device=args.device)

    def build(self, **options: str) -> nn.Module:
        """Return the ViT, converted if options are given, with the same weights in every call."""
        torch.manual_seed(0)
        model = timm.create_model(self.args.model, depth=self.args.depth).to(self.args.device)
        if options:
            convert(model, **options)
        return model

    def ratio(self, work: Workload, reference: Workload) -> str:
        """Return median and interquartile range of the ratio of two times."""
        wait = torch.cuda.synchronize if self.args.device.startswith('cuda') else (lambda: None)
        times = interleave((lambda: work, lambda: reference), self.args.repeats, 2, wait)
        spread = Spread.of([a / b for a, b in zip(*times, strict=True)])
        return f'{spread.median:.2f} ({spread.iqr:.2f})'

    def phase(self, phase: str, **options: str) -> str:
        """Compare the training step of a phase with that of the baseline."""
        model = self.build(include=self.args.include, **options)
        set_phase(model, phase)
        return self.ratio(self._step(model, phase), self._step(self.base))

    def _step(self, model: nn.Module, phase: str = '') -> Workload:
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
        model.train()

        def work() -> None:
            optimizer.zero_grad(set_to_none=True)
            with torch.no_grad() if phase == 'denoise' else contextlib.nullcontext():
                loss = F.cross_entropy(model(self.images), self.labels)
            if phase == 'denoise':
                loss = 0.01 * noise_loss(model)
            loss.backward()
            optimizer.step()

        return work

    def fit(self, fraction: float = 1.0, **options: str) -> str:
        """Compare a pass that collects the moments with an evaluation pass."""
        model = self.build(include=self.args.include, **options).eval()

        @torch.no_grad()
        def collect() -> None:
            with collect_moments(model, fraction):
                model(self.images)

        @torch.no_grad()
        def evaluate() -> None:
            self.base.eval()(self.images)

        return self.ratio(collect, evaluate)

    @torch.no_grad()
    def subsampling_error(self, fraction: float, batches: int) -> tuple[int, float]:
        """Fit to a fraction of the tokens of random images and measure the noise loss on all tokens.

        Returns:
            Number of tokens of the fit, and the largest relative increase of a layer's loss over a fit to all tokens.
        """
        model = self.build(include=self.args.include).eval()
        images = torch.Generator().manual_seed(0)
        with collect_moments(model) as full, collect_moments(model, fraction, torch.Generator()) as part:
            for _ in range(batches):
                model(torch.randn(self.images.shape, generator=images).to(self.args.device))
        losses = []
        for moments in (full, part):
            fit_closed_form(model, moments)
            losses.append(expected_noise_losses(model, full))
        tokens = min(int(moments.count) for moments in part.values())
        return tokens, max(losses[1][name] / losses[0][name] - 1 for name in denoise_layers(model))


def main(args: argparse.Namespace) -> None:
    """Run the tool."""
    threads = torch.get_num_threads()
    torch.set_num_threads(args.threads)
    try:
        print(make_table(Benchmark(args)))
    finally:
        torch.set_num_threads(threads)


def make_table(benchmark: Benchmark) -> str:
    """Measure all rows and return the table."""
    rows: list[tuple[str, str, Callable[[], str]]] = [
        ('predictor phase', 'training step', lambda: benchmark.phase('denoise')),
        ("predictor phase, `side='narrow'`", 'training step', lambda: benchmark.phase('denoise', side='narrow')),
        ('backbone phase', 'training step', lambda: benchmark.phase('backbone')),
        ('closed form', 'evaluation pass', benchmark.fit),
        ("closed form, `side='narrow'`", 'evaluation pass', lambda: benchmark.fit(side='narrow')),
        ('closed form, `token_fraction=0.1`', 'evaluation pass', lambda: benchmark.fit(0.1)),
    ]
    cells = [(name, baseline, measure()) for name, baseline, measure in rows]
    tokens, excess = benchmark.subsampling_error(0.1, benchmark.args.fit_batches)
    return markdown_table(('what', 'relative to', 'time'), cells) + (
        f'\n\nA fit to {tokens:,} tokens, 10 % of all, raises the noise loss of the worst layer by {excess:.2%}.'
    )


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)
