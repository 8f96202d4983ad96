"""Fold the denoisers of a DenoiseRep checkpoint into a plain checkpoint for the untouched baseline config."""

import argparse
import sys

from reprefine.engine.checkpoints.rename import add_key_arguments, key_options
from reprefine.engine.errors import run_cli

EXAMPLE = """example:
  python tools/model_converters/fuse_denoiserep.py \\
      configs/denoiserep/classification/vit-tiny_denoiserep_digits.py epoch_20.pth epoch_20_fused.pth
"""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config of the DenoiseRep run')
    parser.add_argument('checkpoint', help='its unfolded checkpoint')
    parser.add_argument('out', help='file to write; it must not exist yet')
    add_key_arguments(parser)
    parser.add_argument(
        '--tolerance',
        type=float,
        default=1e-6,
        help='largest difference of a folded layer from the unfolded one, relative to its output (default: 1e-6)',
    )
    return parser


def main(args: argparse.Namespace) -> None:
    """Load, fold, compare layer by layer and write."""
    from reprefine.engine.build import build_model
    from reprefine.engine.errors import UserError
    from reprefine.engine.launch import load_config
    from reprefine.methods.denoiserep import DenoiseRep, fuse_checkpoint

    model = build_model(load_config(args.config))
    if not isinstance(model, DenoiseRep):
        raise UserError(f'{args.config} is no DenoiseRep config: give the one the checkpoint was trained with')
    difference = fuse_checkpoint(model, args.checkpoint, args.out, tolerance=args.tolerance, **key_options(args))
    print(f'{args.out}: plain checkpoint; folded layers equal unfolded ones to {difference:.0e} of their output')


if __name__ == '__main__':
    sys.exit(run_cli(main, make_parser()))
