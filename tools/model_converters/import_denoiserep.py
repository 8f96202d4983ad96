"""Convert a checkpoint of the released DenoiseRep code for the configs of this package.

With a DenoiseRep config the noise predictors are kept, for further training or reparameterisation. With its baseline
config they are dropped: the released code evaluates the stored weights without them and reports this accuracy. The
released code also saves merged weights together with their predictors, and such a file cannot always be distinguished
from one that is not merged; in case of doubt use the baseline config.
"""

import argparse

from reprefine.engine.cli.launch import add_config_arguments
from reprefine.engine.cli.tool import run_as_tool

EXAMPLE = """example:
  python tools/model_converters/import_denoiserep.py \\
      configs/denoiserep/classification/vit-tiny_denoiserep_digits.py published.pth imported.pth \\
      --rename '^blocks\\.(\\d+)\\.mlp\\.fc2=backbone.layers.\\1.ffn.layers.1'
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    parser.add_argument('config', help='DenoiseRep config that the checkpoint is for, or its baseline config')
    parser.add_argument('checkpoint', help='checkpoint of the released code, read weights-only')
    parser.add_argument('out', help='file to write; it must not exist yet')
    parser.add_argument(
        '--rename',
        nargs='+',
        default=[],
        metavar='PATTERN=REPLACEMENT',
        help='regular expressions that rename the keys of the file to those of the config, in this order; an empty '
        'name drops the weight',
    )
    add_config_arguments(parser)


def main(args: argparse.Namespace) -> None:
    """Build the model of the config, rename keys, check for missing and unexpected keys, and write."""
    from reprefine.engine.build import build_model
    from reprefine.engine.checkpoints.rename_keys import parse_renames
    from reprefine.engine.cli.launch import load_config
    from reprefine.methods.denoiserep import DenoiseRep, import_published

    renames = parse_renames(args.rename)
    model = build_model(load_config(args.config, args.cfg_options, args.data_root))
    count = import_published(model, args.checkpoint, args.out, renames)
    kept = 'kept' if isinstance(model, DenoiseRep) else 'dropped'
    print(f'{args.out}: fits {args.config}; {count} noise predictors {kept}')


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)
