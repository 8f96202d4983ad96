"""Compare the predictions of a model before and after it is folded, and load the folded weights into its baseline.

The model has random weights and the image is random. Whatever differs beyond rounding is an error of the fold, and ends
the tool with exit code 1; float64 has next to no rounding, but not every model computes in it. A model that chooses,
such as a detector its boxes, may choose otherwise because of rounding: widen the tolerance then.
"""

import argparse
import copy
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from reprefine.deploy import Foldable, relative_difference, switch_to_deploy
from reprefine.engine.checkpoints.weights import load_weights
from reprefine.engine.cost.counting import count_parameters, forward
from reprefine.engine.cost.inputs import Batch, random_batch
from reprefine.engine.cost.models import build_untrained
from reprefine.engine.errors import UserError, run_cli
from reprefine.engine.launch import add_config_arguments, load_config

EXAMPLE = """example:
  python tools/analysis_tools/compare_folded.py configs/denoiserep/classification/resnet50_denoiserep_in1k.py \\
      --baseline configs/baselines/classification/resnet50_8xb32-wide-crop_in1k.py"""

TOLERANCES = {'float32': 1e-4, 'float64': 1e-9}


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config of a model that folds')
    parser.add_argument('--baseline', required=True, help='config whose model the folded weights must fill')
    parser.add_argument('--input-shape', nargs=2, type=int, metavar=('H', 'W'), help="default: the config's own")
    parser.add_argument('--dtype', choices=list(TOLERANCES), default='float32')
    parser.add_argument(
        '--tolerance',
        type=float,
        help=f'largest relative difference that counts as equal (default: {TOLERANCES["float32"]} in float32, '
        f'{TOLERANCES["float64"]} in float64)',
    )
    add_config_arguments(parser)
    return parser


def main(args: argparse.Namespace) -> None:
    """Run the tool."""
    torch.set_default_dtype(getattr(torch, args.dtype))  # also of what models make as they run, such as anchors
    try:
        compare(args)
    finally:
        torch.set_default_dtype(torch.float32)


def compare(args: argparse.Namespace) -> None:
    """Predict, fold, predict again and load; print how much differed.

    Raises:
        UserError: If nothing folds, the folded weights do not fit the baseline, or the predictions differ.
    """
    tolerance = TOLERANCES[args.dtype] if args.tolerance is None else args.tolerance
    cfg = load_config(args.config, args.cfg_options, args.data_root)
    model = build_untrained(cfg).eval()
    if not any(isinstance(module, Foldable) for module in model.modules()):
        raise UserError(f'{args.config}: nothing in its model folds; give the config of a refined model')
    batch = random_batch(cfg, args.input_shape and tuple(args.input_shape))
    before = predict(model, batch)
    folded = switch_to_deploy(model)
    after = predict(folded, batch)
    baseline = build_untrained(load_config(args.baseline))
    match = load_weights(baseline, folded.state_dict())  # strict, but for tables that Swin V2 computes anew
    if not match.exact:
        raise UserError(f'the folded weights do not fit {args.baseline}: {match}')
    print(
        f'parameters folded {count_parameters(folded):,}, baseline {count_parameters(baseline):,}: all weights loaded'
    )
    largest = difference(before, after)
    print(f'{len(before)} tensors of features and predictions; largest relative difference {largest:.1e}')
    if not (before and largest <= tolerance):
        raise UserError(
            f'{args.config}: the folded model differs by {largest:.1e} in {len(before)} tensors, more than '
            f'{tolerance:.0e}: the fold is wrong, or widen --tolerance'
        )


@torch.no_grad()
def predict(model: nn.Module, batch: Batch) -> list[Tensor]:
    """Return all floating-point tensors among a model's features and predictions for a batch."""
    data = model.data_preprocessor(copy.deepcopy(batch.data), False)
    data['inputs'] = data['inputs'].to(torch.get_default_dtype())
    results = [model.extract_feat(data['inputs']), forward(model, data, 'predict')]
    return [tensor for tensor in tensors_in(results) if tensor.is_floating_point()]


def tensors_in(result: Any) -> Iterator[Tensor]:
    """Yield the tensors in nested lists, dicts and data elements."""
    if isinstance(result, Tensor):
        yield result
    elif isinstance(result, BaseDataElement):
        yield from tensors_in(dict(result.items()))
    elif isinstance(result, dict):
        yield from tensors_in(list(result.values()))
    elif isinstance(result, (list, tuple)):
        for part in result:
            yield from tensors_in(part)


def difference(before: list[Tensor], after: list[Tensor]) -> float:
    """Return the largest difference, relative to the largest value of its tensor; infinite for other shapes, or NaN."""
    if [t.shape for t in before] != [t.shape for t in after]:
        return float('inf')
    pairs = zip(after, before, strict=True)
    return float(np.max([relative_difference(ours, plain) for ours, plain in pairs if plain.numel()], initial=0.0))


if __name__ == '__main__':
    sys.exit(run_cli(main, make_parser()))
