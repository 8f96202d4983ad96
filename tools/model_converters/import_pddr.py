"""Convert a checkpoint of the released PDDR code for the configs of this package."""

import argparse

from reprefine.engine.cli.launch import add_config_arguments
from reprefine.engine.cli.tool import run_as_tool

EXAMPLE = """example:
  python tools/model_converters/import_pddr.py \\
      configs/pddr/classification/resnet18-pdb_8xb32-wide-crop_in1k.py published.pth imported.pth
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    parser.add_argument('config', help='classification config with a PDResNet of the same branches')
    parser.add_argument('checkpoint', help='checkpoint of the released code, read weights-only')
    parser.add_argument('out', help='file to write; it must not exist yet')
    parser.add_argument(
        '--rename',
        nargs='+',
        default=[],
        metavar='PATTERN=REPLACEMENT',
        help='regular expressions that rename the keys of the file before conversion, applied one after the other',
    )
    add_config_arguments(parser)


def main(args: argparse.Namespace) -> None:
    """Build the model of the config, rename keys, check for missing and unexpected keys, and write."""
    from reprefine.engine.build import build_model
    from reprefine.engine.checkpoints.rename_keys import parse_renames
    from reprefine.engine.cli.launch import load_config
    from reprefine.methods.pddr.import_published import import_published

    renames = parse_renames(args.rename)
    model = build_model(load_config(args.config, args.cfg_options, args.data_root))
    count = import_published(model, args.checkpoint, args.out, renames)
    print(f'{args.out}: fits {args.config}; {count} disentangled convolutions')


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)
