"""Average the gates of a PD-B model over its test images, by layer and class."""

import argparse
from pathlib import Path

from reprefine.engine.checkpoints.rename_keys import add_key_arguments, key_options
from reprefine.engine.cli.launch import add_config_arguments
from reprefine.engine.cli.tool import run_as_tool

EXAMPLE = """example:
  python tools/analysis_tools/pd_gates.py configs/pddr/classification/resnet18-w32-pdb_10e_mnist5k.py epoch_10.pth \\
      --plot gates.png

Prints the mean weight of each branch in each layer, and the standard deviation of the means of the classes. Images of
a detector or segmentor have no class and are treated as one class.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    parser.add_argument('config', help='config of a PD-B model, in training or deployed form')
    parser.add_argument('checkpoint', help='its checkpoint')
    parser.add_argument('--plot', type=Path, metavar='FILE.png', help='plot the gates of all classes')
    add_key_arguments(parser)
    add_config_arguments(parser)


def main(args: argparse.Namespace) -> None:
    """Run the tool."""
    from reprefine.engine.build import load_trained
    from reprefine.engine.cli.launch import load_config
    from reprefine.methods.pddr.analysis import gate_table, mean_gates
    from reprefine.methods.pddr.analysis.data_loading import preprocessed_test_batches
    from reprefine.methods.pddr.analysis.plot import plot_gates
    from reprefine.methods.pddr.layers.lookup import pd_convs

    cfg = load_config(args.config, args.cfg_options, args.data_root)
    model = load_trained(cfg, args.checkpoint, **key_options(args))
    classes = getattr(getattr(model, 'head', None), 'num_classes', 1)
    gates, counts = mean_gates(model, (batch[:2] for batch in preprocessed_test_batches(cfg, model)), classes)
    branches = next(conv.branches for conv in pd_convs(model).values() if conv.mode == 'B')
    print(gate_table(gates, counts, branches))
    if args.plot:
        plot_gates(gates, branches, [str(index) for index in range(len(counts))], args.plot)


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)
