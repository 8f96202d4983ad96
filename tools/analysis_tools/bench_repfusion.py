"""Time a distillation step with early exit against one that runs the full UNet, in alternating order.

The teacher is the UNet of google/ddpm-cifar10-32, the student a ResNet-18 for CIFAR; both have random weights.
"""

import argparse

from reprefine.engine.cli.tool import run_as_tool

EXAMPLE = """example:
  python tools/analysis_tools/bench_repfusion.py --batch-size 16 --repeats 9 --compile"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    parser.add_argument('--batch-size', type=int, default=16, help='images per batch')
    parser.add_argument('--repeats', type=int, default=9, help='timed rounds')
    parser.add_argument('--device', default='cpu', help='torch device')
    parser.add_argument('--compile', action='store_true', help='measure torch.compile too; needs a C++ compiler')


def main(args: argparse.Namespace) -> None:
    """Measure and print."""
    import tempfile

    import repfusion_step_cost as bench  # in this folder
    import torch

    torch.manual_seed(0)
    images = torch.randint(0, 256, (args.batch_size, 3, 32, 32), device=args.device).float()
    print(f'{torch.get_num_threads()} threads, batch {args.batch_size}, {args.repeats} rounds; relative to full UNet')
    print('teacher | time of a step (interquartile range) | seconds | difference of features')
    with tempfile.TemporaryDirectory() as folder:
        for variant in (*bench.VARIANTS, *(bench.COMPILED if args.compile else ())):
            cost = bench.measure_step_cost(variant, images, folder, args.repeats)
            ratio = f'{cost.ratio.median:.3f} ({cost.ratio.iqr:.3f})'
            print(f'{variant} | {ratio} | {cost.seconds:.3f} | {cost.difference:.0e}', flush=True)


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)
