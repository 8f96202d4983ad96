"""Convert the encoder of an MAE checkpoint of mmpretrain to the keys of timm."""

import argparse
from pathlib import Path

import torch

from reprefine.engine.checkpoints.checkpoint import read_checkpoint
from reprefine.engine.checkpoints.rename_keys import rename_key
from reprefine.engine.cli.tool import run_as_tool
from reprefine.engine.errors import UserError
from reprefine.engine.files import atomic_write
from reprefine.registry import MODELS  # noqa: F401  registers the types that checkpoints of mmengine contain

EXAMPLE = """example:
  python tools/model_converters/mae_to_timm.py work_dirs/dvt/demo/mae_vit-p4_ade20k-64px/iter_4000.pth \\
      work_dirs/dvt/demo/mae_vit-p4_ade20k-64px/vit.pth
"""
PREFIX = 'backbone.'
RENAMES = (
    (r'^patch_embed\.projection\.', 'patch_embed.proj.'),
    (r'^layers\.(\d+)\.ln(\d)\.', r'blocks.\1.norm\2.'),
    (r'^layers\.(\d+)\.ffn\.layers\.0\.0\.', r'blocks.\1.mlp.fc1.'),
    (r'^layers\.(\d+)\.ffn\.layers\.1\.', r'blocks.\1.mlp.fc2.'),
    (r'^layers\.', 'blocks.'),
    (r'^ln1\.', 'norm.'),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    parser.add_argument('checkpoint', help='checkpoint of the pre-training')
    parser.add_argument('out', type=Path, help='file to write')


def main(args: argparse.Namespace) -> None:
    """Rename the keys and write.

    Raises:
        UserError: If the checkpoint has no backbone.
    """
    state = read_checkpoint(args.checkpoint).get('state_dict', {})
    encoder = {name.removeprefix(PREFIX): value for name, value in state.items() if name.startswith(PREFIX)}
    if not encoder:
        raise UserError(f'{args.checkpoint} has no keys {PREFIX}*: give a checkpoint of the pre-training')
    with atomic_write(args.out) as partial:
        torch.save({rename_key(name, RENAMES): value for name, value in encoder.items()}, partial)
    print(f'{args.out}: {len(encoder)} tensors')


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)
