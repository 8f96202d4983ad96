"""Draw where classifiers look (Grad-CAM), several of them on the same test images."""

import argparse
import sys
from pathlib import Path

from reprefine.engine.checkpoints.rename import add_key_arguments, key_options
from reprefine.engine.errors import UserError, run_cli
from reprefine.engine.launch import add_config_arguments

EXAMPLE = """example:
  python tools/visualizations/vis_cam.py --out cam.png --num 6 \\
      --model configs/baselines/classification/resnet18-w32_10e_mnist5k.py plain.pth \\
      --model configs/pddr/classification/resnet18-w32-pdb_10e_mnist5k.py pdb.pth

A row is an image of the first config's test set, a column a model; above an image stand its class and what the model
says. The map is that of the predicted class, --true takes the true one. Training and deployed forms give the same map.
"""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--model', nargs=2, action='append', required=True, metavar=('CONFIG', 'CKPT'), help='repeat for every model'
    )
    parser.add_argument('--out', type=Path, required=True, metavar='FILE.png', help='the picture')
    parser.add_argument('--num', type=int, default=6, metavar='N', help='number of images, spread over the test set')
    parser.add_argument('--layer', help='layer that ends in feature maps (default: last stage of the backbone)')
    parser.add_argument('--true', action='store_true', help='draw what speaks for the true class')
    add_key_arguments(parser)
    add_config_arguments(parser)
    return parser


def main(args: argparse.Namespace) -> None:
    """Run the tool."""
    from reprefine.engine.build import load_trained
    from reprefine.engine.launch import load_config
    from reprefine.methods.pddr.analysis.cam import draw_cams

    if args.num < 1 or args.out.suffix != '.png':
        raise UserError('--num must be positive, and --out a .png file')
    configs = [load_config(path, args.cfg_options, args.data_root) for path, _ in args.model]
    stems = [Path(path).stem for path, _ in args.model]
    names = [
        stem if stems.count(stem) == 1 else f'{stem}\n{Path(checkpoint).stem}'
        for stem, (_, checkpoint) in zip(stems, args.model, strict=True)
    ]
    models = [
        load_trained(cfg, checkpoint, **key_options(args))
        for cfg, (_, checkpoint) in zip(configs, args.model, strict=True)
    ]
    draw_cams(list(zip(names, models, strict=True)), configs[0], args.out, args.num, args.layer, args.true)
    print(f'{args.out}: {args.num} images, {len(models)} models')


if __name__ == '__main__':
    sys.exit(run_cli(main, make_parser()))
