"""Measure what the ways to train and to deploy disentangled convolutions cost; ratios from rounds in turn."""

import argparse
import sys

from reprefine.engine.errors import run_cli

EXAMPLE = """example:
  python tools/analysis_tools/bench_pddr_conv.py --what stages --mode A --repeats 7"""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
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
    return parser


def main(args: argparse.Namespace) -> None:
    """Measure and print."""
    import torch

    from reprefine.methods.pddr import bench

    torch.manual_seed(0)
    print(f'{torch.get_num_threads()} threads, {args.repeats} rounds; median (interquartile range) of the ratios')
    if args.what == 'deploy':
        deploy(args)
        return
    if args.what == 'stages':
        cases = bench.stage_convs(args.mode, args.batch_size)
    else:
        cases = [bench.network(args.mode, args.depth, args.batch_size, args.size)]
    print('case | variant | time | memory held | difference; relative to branches')
    for name, module, x in cases:
        for variant in (*bench.VARIANTS, *([bench.COMPILED] if args.compile else [])):
            cost = bench.training_cost(module, x, variant, args.repeats)
            time = f'{cost.time.median:.2f} ({cost.time.iqr:.2f})'
            print(f'{name} | {variant} | {time} | {cost.memory:.2f} | {cost.difference:.0e}', flush=True)


def deploy(args: argparse.Namespace) -> None:
    """Compare deployed networks with the plain one, at batch size 1."""
    from reprefine.methods.pddr import bench

    _, plain, x = bench.network(None, args.depth, 1, args.size)
    name, ours, _ = bench.network(args.mode, args.depth, 1, args.size)
    ours.switch_to_deploy()
    ratio = bench.latency(ours, plain, x, args.repeats)
    print(f'{name} deployed | latency relative to plain, batch size 1 | {ratio.median:.3f} ({ratio.iqr:.3f})')


if __name__ == '__main__':
    sys.exit(run_cli(main, make_parser()))
