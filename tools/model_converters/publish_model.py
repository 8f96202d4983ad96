"""Publish a checkpoint: write its weights without optimizer, history, config and names of the machine.

The first eight digits of the SHA-256 become part of the file name. The weights of a run with a moving average (EMAHook)
are the average. A .safetensors file cannot contain code; a tensor with several names is stored once per name in it.
"""

import argparse

from reprefine.engine.checkpoints.rename_keys import add_key_arguments, key_options
from reprefine.engine.cli.tool import run_as_tool

EXAMPLE = """examples:
  python tools/model_converters/publish_model.py work_dirs/baselines/classification/vit-tiny_digits/epoch_30.pth \\
      digits.pth
  python tools/model_converters/publish_model.py work_dirs/baselines/classification/vit-tiny_digits/epoch_30.pth \\
      digits.safetensors
  python tools/model_converters/publish_model.py dino.pth backbone.pth --checkpoint-key teacher \\
      --revise-keys '^backbone\\.='
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    parser.add_argument('in_file', help='checkpoint, read weights-only')
    parser.add_argument('out_file', help='NAME.pth or NAME.safetensors; written is NAME-<digits> with that suffix')
    add_key_arguments(parser)
    parser.add_argument(
        '--save-keys',
        nargs='+',
        default=['meta', 'state_dict'],
        metavar='KEY',
        help='keys of the checkpoint to keep (default: meta, cleaned, and state_dict)',
    )


def main(args: argparse.Namespace) -> None:
    """Read, clean and write."""
    from reprefine.engine.checkpoints.publish import publish

    done = publish(args.in_file, args.out_file, args.save_keys, **key_options(args))
    weights = ', the moving average of the run' if done.averaged else ''
    print(f'{done.file}: {done.tensors} tensors{weights}')
    print(f'meta: kept {", ".join(done.kept_meta) or "nothing"}; left out {", ".join(done.dropped_meta) or "nothing"}')


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)
