"""Initialise a baseline network from a trained PD-A network: elementwise maximum of the branches' kernels and norms."""

import argparse

from reprefine.engine.checkpoints.rename_keys import add_key_arguments, key_options
from reprefine.engine.cli.tool import run_as_tool
from reprefine.engine.errors import UserError

EXAMPLE = """example:
  python tools/model_converters/lottery_transfer_pddr.py \\
      configs/pddr/classification/resnet18-pda_8xb32-wide-crop_in1k.py epoch_100.pth lottery.pth
  python tools/train.py configs/baselines/classification/resnet18_8xb32-wide-crop_in1k.py \\
      --cfg-options load_from=lottery.pth

This is an initialisation for training, not a conversion: the baseline does not compute the same outputs.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    parser.add_argument('config', help='config of a PD-A run')
    parser.add_argument('checkpoint', help='its checkpoint, in training form')
    parser.add_argument('out', help='file to write; it must not exist yet')
    parser.add_argument('--redraw', type=int, metavar='SEED', help='the control: random kernels, everything else equal')
    add_key_arguments(parser)


def main(args: argparse.Namespace) -> None:
    """Load, transfer and write."""
    from pathlib import Path

    import torch

    from reprefine.engine.build import load_trained
    from reprefine.engine.cli.launch import load_config
    from reprefine.engine.files import atomic_write
    from reprefine.methods.pddr.conversion.lottery_ticket import lottery_ticket_state

    if Path(args.out).exists():
        raise UserError(f'{args.out} exists: give another name, or remove it')
    model = load_trained(load_config(args.config), args.checkpoint, **key_options(args))
    generator = None if args.redraw is None else torch.Generator().manual_seed(args.redraw)
    state = lottery_ticket_state(model, generator)
    with atomic_write(args.out) as partial:
        torch.save(dict(meta=dict(pddr_lottery=True), state_dict=state), partial)
    kernels = 'maximum of the branches' if generator is None else f'drawn with seed {args.redraw}'
    print(f'{args.out}: initial weights of the baseline, kernels: {kernels}')


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)
