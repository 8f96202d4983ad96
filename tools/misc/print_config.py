"""Print a config after inheritance, with options merged and checked."""

import argparse
import difflib
from pathlib import Path

from reprefine.engine.cli.launch import add_config_arguments, load_config
from reprefine.engine.cli.tool import run_as_tool
from reprefine.engine.errors import UserError

FORMATS = ('.py', '.json', '.yml', '.yaml')
EXAMPLE = """examples:
  python tools/misc/print_config.py configs/baselines/classification/vit-tiny_digits.py --save-path full.py
  python tools/misc/print_config.py configs/denoiserep/classification/vit-tiny_denoiserep_digits.py \\
      --diff configs/baselines/classification/vit-tiny_digits.py"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    parser.add_argument('config', help='config file')
    add_config_arguments(parser)
    parser.add_argument('--save-path', type=Path, metavar='FILE', help=f'also write it ({", ".join(FORMATS)})')
    parser.add_argument('--diff', metavar='OTHER', help='print the difference to OTHER instead')


def main(args: argparse.Namespace) -> None:
    """Run the tool."""
    if args.save_path and args.save_path.suffix not in FORMATS:
        raise UserError(f'--save-path {args.save_path}: the suffix must be one of {", ".join(FORMATS)}')
    cfg = load_config(args.config, args.cfg_options, args.data_root)
    if args.diff:
        texts = (config.pretty_text.splitlines() for config in (load_config(args.diff), cfg))
        difference = difflib.unified_diff(*texts, args.diff, args.config, lineterm='')
        print('\n'.join(difference) or 'no difference')
    else:
        print(cfg.pretty_text)
    if args.save_path:
        args.save_path.parent.mkdir(parents=True, exist_ok=True)
        cfg.dump(args.save_path)


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)
