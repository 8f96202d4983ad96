"""Test a landmark model on the test set of WFLW and on its six subsets."""

import argparse

from rich.console import Console
from rich.table import Table

from reprefine.engine.checkpoints.rename_keys import add_key_arguments
from reprefine.engine.cli.launch import add_config_arguments
from reprefine.engine.cli.tool import run_as_tool

EXAMPLE = """example:
  python tools/analysis_tools/test_wflw_subsets.py configs/baselines/landmarks/hrnetv2-w18_2xb128-60e_wflw-256x256.py \\
      work_dirs/baselines/landmarks/hrnetv2-w18_2xb128-60e_wflw-256x256/epoch_60.pth --out subsets.json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--out', metavar='FILE.json', help='write the metrics of each subset')
    parser.add_argument('--work-dir', help='folder for the logs (default: mirrors the path of the config)')
    add_key_arguments(parser)
    add_config_arguments(parser)


def main(args: argparse.Namespace) -> None:
    """Run the tool."""
    import mmengine

    from reprefine.engine.files import atomic_write
    from reprefine.tasks.landmarks.subsets import evaluate_subsets

    options = (args.work_dir, args.cfg_options, args.data_root, args.checkpoint_key, args.revise_keys)
    results = evaluate_subsets(args.config, args.checkpoint, *options)
    names = list(results['full'])
    table = Table('subset', *names)
    for subset, metrics in results.items():
        table.add_row(subset, *(f'{metrics[name]:.4f}' for name in names))
    Console().print(table)
    with atomic_write(args.out) as partial:
        if partial:
            mmengine.dump(results, partial, file_format='json', indent=2)


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)
