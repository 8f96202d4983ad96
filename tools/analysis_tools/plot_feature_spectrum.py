"""Plot the spectrum of the output of every denoised layer before and after its noise predictor is merged."""

import argparse
import itertools
from pathlib import Path

from reprefine.engine.build import load_trained
from reprefine.engine.checkpoints.rename_keys import add_key_arguments, key_options
from reprefine.engine.cli.launch import add_config_arguments, load_config
from reprefine.engine.cli.tool import run_as_tool
from reprefine.engine.cost.models import quiet_log
from reprefine.engine.errors import UserError
from reprefine.engine.runner import Runner
from reprefine.methods.denoiserep.plot import plot_spectra
from reprefine.methods.denoiserep.spectrum import feature_spectra

EXAMPLE = """example:
  python tools/analysis_tools/plot_feature_spectrum.py \\
      configs/denoiserep/classification/vit-tiny_denoiserep_digits.py \\
      work_dirs/denoiserep/classification/vit-tiny_denoiserep_digits/epoch_20.pth"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    parser.add_argument('config', help='config of a DenoiseRep run')
    parser.add_argument('checkpoint', help='its checkpoint in training form')
    parser.add_argument('--batches', type=int, default=50, metavar='N', help='number of batches of the test data')
    parser.add_argument('--out', type=Path, metavar='FILE.png', help='the plot (default: beside the checkpoint)')
    add_key_arguments(parser)
    add_config_arguments(parser)


def main(args: argparse.Namespace) -> None:
    """Run the tool.

    Raises:
        UserError: If the model is not a DenoiseRep model, or the checkpoint does not match it.
    """
    cfg = load_config(args.config, args.cfg_options, args.data_root)
    if cfg.model.get('type') != 'reprefine.DenoiseRep':
        raise UserError(
            f'{args.config}: model.type is {cfg.model.get("type")}: give a config with reprefine.DenoiseRep'
        )
    with quiet_log():
        model = load_trained(cfg, args.checkpoint, **key_options(args))
    loader = Runner.build_dataloader(dict(cfg.test_dataloader, num_workers=0, persistent_workers=False))

    def run() -> None:
        for batch in itertools.islice(loader, args.batches):
            model.test_step(batch)

    spectra = feature_spectra(model, run)
    out = args.out or Path(args.checkpoint).with_name(f'{Path(args.checkpoint).stem}_spectrum.png')
    plot_spectra(spectra, out)
    for name, (before, after) in spectra.items():
        print(f'{name}: total variance {before.sum():.5g} -> {after.sum():.5g}')
    print(f'wrote {out}')


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)
