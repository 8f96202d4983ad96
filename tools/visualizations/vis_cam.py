"""Plot attribution maps of classifiers by Grad-CAM, gradients or occlusion on the same test images."""

import argparse
from pathlib import Path

from reprefine.engine.checkpoints.rename_keys import add_key_arguments, key_options
from reprefine.engine.cli.launch import add_config_arguments
from reprefine.engine.cli.tool import run_as_tool
from reprefine.engine.errors import UserError

EXAMPLE = """example:
  python tools/visualizations/vis_cam.py --out cam.png --num 6 \\
      --model configs/baselines/classification/resnet18-w32_10e_mnist5k.py plain.pth \\
      --model configs/pddr/classification/resnet18-w32-pdb_10e_mnist5k.py pdb.pth

  python tools/visualizations/vis_cam.py --out maps.png --num 3 --method grad-cam guided-grad-cam occlusion \\
      --model configs/pddr/classification/resnet18-pdb_8xb32-wide-crop_in1k.py epoch_100.pth

A row is an image of the first config's test set, resized without the crop of the config; a column is a model and a
method, with the predicted class. The map is that of the predicted class, with --true that of the true class. Training
and deployed forms give the same map.

  grad-cam          class activation map of the layer --layer, over the image
  gradient          gradient of the logit with respect to the image (saliency), scaled to the range of colours
  deconvnet         the same, with negative gradients set to zero at every ReLU
  guided-backprop   the same, also where the input of the ReLU is not positive
  guided-grad-cam   guided-backprop times grad-cam
  occlusion         change of the logit by a grey patch at each position: red lowers it, blue raises it.
                    An image of 224x224 pixels takes 784 forward passes at --stride 8, 50,176 at the published 1
"""


METHODS = ('grad-cam', 'gradient', 'deconvnet', 'guided-backprop', 'guided-grad-cam', 'occlusion')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    parser.add_argument(
        '--model', nargs=2, action='append', required=True, metavar=('CONFIG', 'CKPT'), help='repeat for every model'
    )
    parser.add_argument('--out', type=Path, required=True, metavar='FILE.png', help='image file to write')
    parser.add_argument('--num', type=int, default=6, metavar='N', help='number of images, spread over the test set')
    parser.add_argument(
        '--method', nargs='+', choices=METHODS, default=['grad-cam'], help='one or several, a column each'
    )
    parser.add_argument('--layer', help='layer that ends in feature maps (default: last stage of the backbone)')
    parser.add_argument(
        '--size', type=int, metavar='PX', help="resize images to a square (default: the size of the config's crop)"
    )
    parser.add_argument(
        '--blend',
        choices=('average', 'map'),
        default='average',
        help='blend Grad-CAM and image by their average, or with the map as opacity',
    )
    parser.add_argument('--patch', type=int, default=35, metavar='PX', help='side of the patch of the occlusion map')
    parser.add_argument('--stride', type=int, default=8, metavar='PX', help='stride of the patch')
    parser.add_argument('--true', action='store_true', help='attribution of the true class')
    add_key_arguments(parser)
    add_config_arguments(parser)


def main(args: argparse.Namespace) -> None:
    """Run the tool."""
    from reprefine.engine.build import load_trained
    from reprefine.engine.cli.launch import load_config
    from reprefine.methods.pddr.analysis.attribution.figure import plot_attributions
    from reprefine.methods.pddr.analysis.attribution.panels import AttributionOptions

    if args.num < 1 or args.out.suffix != '.png':
        raise UserError('give a positive number as --num, and a .png file as --out')
    if args.size is not None and args.size < 1:
        raise UserError(f'--size {args.size}: use a positive number of pixels')
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
    options = AttributionOptions(args.method, args.layer, args.true, args.size, args.blend, args.patch, args.stride)
    plot_attributions(list(zip(names, models, strict=True)), configs[0], args.out, args.num, options)
    print(f'{args.out}: {args.num} images, {len(models)} models, {", ".join(args.method)}')


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)
