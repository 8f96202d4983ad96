"""Plot the weights of the branches of one PD convolution, and their responses to a test image."""

import argparse
from pathlib import Path

from reprefine.engine.checkpoints.rename_keys import add_key_arguments, key_options
from reprefine.engine.cli.launch import add_config_arguments
from reprefine.engine.cli.tool import run_as_tool

EXAMPLE = """example:
  python tools/visualizations/vis_pd_branches.py configs/pddr/classification/resnet18-pda_8xb32-wide-crop_in1k.py \\
      epoch_100.pth --layer layer4.1.conv2 --out branches.png

Left: histograms of the weights as they are trained, without the norms, the strips of the skeleton together. Middle:
normal densities with their means and deviations. Right: responses of the channels to the image, averaged over its
positions. The bins are common to all branches.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    parser.add_argument('config', help='config of the training form')
    parser.add_argument('checkpoint', help='its checkpoint')
    parser.add_argument('--out', type=Path, required=True, metavar='FILE.png', help='image file to write')
    parser.add_argument('--layer', help='name of the convolution, or its end (default: the last one)')
    add_key_arguments(parser)
    add_config_arguments(parser)


def main(args: argparse.Namespace) -> None:
    """Run the tool."""
    from reprefine.engine.build import load_trained
    from reprefine.engine.cli.launch import load_config
    from reprefine.methods.pddr.analysis import branch_responses, branch_weights, find_pd_conv
    from reprefine.methods.pddr.analysis.data_loading import preprocessed_test_batches
    from reprefine.methods.pddr.analysis.plot import plot_branches

    cfg = load_config(args.config, args.cfg_options, args.data_root)
    model = load_trained(cfg, args.checkpoint, **key_options(args))
    name, conv = find_pd_conv(model, args.layer)
    image = next(preprocessed_test_batches(cfg, model)).images[:1]
    weights = branch_weights(conv)
    responses = {branch: values[0] for branch, values in branch_responses(lambda: model(image), conv).items()}
    plot_branches(weights, responses, f'{Path(args.config).stem}: {name}', args.out)
    for branch, values in weights.items():
        print(f'{branch}: {values.numel():,} weights, mean {values.mean():+.5f}, deviation {values.std():.5f}')


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)
