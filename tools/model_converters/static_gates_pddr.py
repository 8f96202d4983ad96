"""Approximate PD-B by a baseline network: fix its gates to their means over training images."""

import argparse
from pathlib import Path

from reprefine.engine.checkpoints.rename_keys import add_key_arguments, key_options
from reprefine.engine.cli.launch import add_config_arguments
from reprefine.engine.cli.tool import run_as_tool
from reprefine.engine.errors import UserError

EXAMPLE = """example:
  python tools/model_converters/static_gates_pddr.py \\
      configs/pddr/classification/resnet18-pdb_8xb32-wide-crop_in1k.py epoch_100.pth static.pth --num 512

PD-B mixes its kernels for every sample. With one gate for all samples it is a baseline network, whose config loads the
file. Its outputs DIFFER from the trained model: the tool tests both, prints their metrics, and stores them in the meta
data of the file. For an exact deployment of PD-B use reparameterize_model.py.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    parser.add_argument('config', help='config of a PD-B run')
    parser.add_argument('checkpoint', help='its checkpoint, in training or deployed form')
    parser.add_argument('out', type=Path, help='file to write; it must not exist yet')
    parser.add_argument('--num', type=int, default=256, metavar='N', help='number of training images (default: 256)')
    add_key_arguments(parser)
    add_config_arguments(parser)


def main(args: argparse.Namespace) -> None:
    """Load, average the gates, test both models and write."""
    import torch

    from reprefine.deploy.forms import baseline_copy
    from reprefine.engine.build import load_trained
    from reprefine.engine.cli.launch import load_config
    from reprefine.engine.files import atomic_write
    from reprefine.methods.pddr.analysis.data_loading import evaluate_model, evenly_spaced_training_images
    from reprefine.methods.pddr.conversion.static_gates import average_gate_model

    if args.num < 1:
        raise UserError(f'--num {args.num}: use a positive number of images')
    if args.out.exists():
        raise UserError(f'{args.out} exists: give another name, or remove it')
    cfg = load_config(args.config, args.cfg_options, args.data_root)
    model = load_trained(cfg, args.checkpoint, **key_options(args))
    static, gates = average_gate_model(model, evenly_spaced_training_images(cfg, model, args.num))
    baseline = baseline_copy(static)
    exact, approximate = (evaluate_model(cfg, network) for network in (model, baseline))
    meta = dict(pddr_static_gates=dict(images=args.num, exact=exact, approximate=approximate))
    with atomic_write(args.out) as partial:
        torch.save(dict(meta=meta, state_dict=baseline.state_dict()), partial)
    print(f'{args.out}: baseline checkpoint, APPROXIMATE, with the mean of {len(gates)} gates over {args.num} images')
    for name, value in exact.items():
        print(f'{name}: {value:.4f} with the gates of each sample, {approximate[name]:.4f} with the fixed ones')


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)
