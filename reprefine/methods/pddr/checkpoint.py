"""Folding a checkpoint file: from what a PD run saves to what its deployed or its plain config loads."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from reprefine.deploy import relative_difference, switch_to_deploy
from reprefine.engine.checkpoints.checkpoint import read_checkpoint
from reprefine.engine.checkpoints.entries import select_weights
from reprefine.engine.checkpoints.weights import load_weights
from reprefine.engine.cost.counting import count_parameters
from reprefine.engine.errors import UserError
from reprefine.engine.files import complete_file

from .conv import PDConv
from .examples import Call, calls, outputs_of
from .linear import PDLinear
from .plain import pd_layers, plain_model

DEPLOYED_META = 'pddr_deployed'
TOLERANCE = 1e-5  # of the largest output; computed in float64, so that only the rounding of folded weights counts
_KEPT_META = ('dataset_meta', 'epoch', 'iter', 'mmengine_version')


class Folding(NamedTuple):
    """What :func:`reparameterize` did.

    Attributes:
        model: The deployed model.
        before: Parameters of the training form.
        after: Parameters of what was written.
        difference: Largest relative difference of a layer, or of an output of the model if it ran, in float64.
        compared: What was compared.
        averaged: Whether the weights are the moving average of the run (EMA).
    """

    model: nn.Module
    before: int
    after: int
    difference: float
    compared: str
    averaged: bool


def reparameterize(
    model: nn.Module,
    source: str | Path,
    target: str | Path,
    plain: bool = False,
    overwrite: bool = False,
    tolerance: float = TOLERANCE,
    checkpoint_key: str | None = None,
    revise_keys: Sequence[tuple[str, str]] = (),
) -> Folding:
    """Load a training checkpoint, fold the model, check that it computes the same, and write it.

    Args:
        model: Model of the checkpoint's config, in training form; folded in place.
        source: Checkpoint of its training. If the run kept a moving average, that is what it holds as weights.
        target: File to write; it appears whole or not at all, without optimiser and message hub.
        plain: Write PD-A under the names of the plain model instead of those of the ``deploy=True`` config.
        overwrite: Whether an existing target may be replaced.
        tolerance: Largest relative difference of an output that counts as rounding.
        checkpoint_key: Entry of the source that holds the weights.
        revise_keys: Pairs of pattern and replacement for their names.

    Raises:
        UserError: If the target exists, the checkpoint does not fit, is folded already or holds values that are not
            finite, a plain form does not exist, or what would be written differs.
    """
    if Path(target).exists() and not overwrite:
        raise UserError(f'{target} exists: give another name, or remove it')
    if not pd_layers(model):
        raise UserError('the model of the config has no PD layer: give the config the checkpoint was trained with')
    if any(layer.deploy for layer in pd_layers(model).values()):
        raise UserError('the config builds the deployed form: give the one the checkpoint was trained with')
    checkpoint = select_weights(read_checkpoint(str(source)), str(source), checkpoint_key, revise_keys)
    match = load_weights(model, checkpoint)
    if not match.exact:
        raise UserError(f'{source} does not fit the config: {match}')
    _check_finite(model, source)
    before, trained = count_parameters(model), copy.deepcopy(model)
    model.eval()
    switch_to_deploy(model)
    if unfolded := [name for name, layer in pd_layers(model).items() if not layer.deploy]:
        raise UserError(f'{unfolded[0]} is in training form still, after the model was folded; nothing is written')
    written = plain_model(model) if plain else model
    difference, compared = largest_difference(trained, written)
    if not difference <= tolerance:
        raise UserError(
            f'{source}: the folded model differs by {difference:.1e} of the largest output from the trained one, more '
            f'than {tolerance:.1e}, on {compared}; nothing is written'
        )
    meta = {key: value for key, value in checkpoint.get('meta', {}).items() if key in _KEPT_META}
    with complete_file(target) as partial:
        weights = {key: value.detach().cpu() for key, value in written.state_dict().items()}
        torch.save(dict(meta=meta | {DEPLOYED_META: not plain}, state_dict=weights), partial)
    return Folding(model, before, count_parameters(written), difference, compared, 'ema_state_dict' in checkpoint)


def _check_finite(model: nn.Module, source: str | Path) -> None:
    broken = [
        key for key, value in model.state_dict().items() if value.is_floating_point() and not value.isfinite().all()
    ]
    if broken:
        raise UserError(
            f'{source}: {len(broken)} tensors hold values that are not finite ({", ".join(broken[:3])}): the training '
            'diverged; give an earlier checkpoint'
        )


def largest_difference(trained: nn.Module, folded: nn.Module) -> tuple[float, str]:
    """Return how far a folded model is from its training form, relative to the outputs, on random input in float64.

    Compared are every disentangled layer on its own, unless it is plain in ``folded``, and the whole model, or at
    least its feature maps, if it runs on an input that can be guessed.

    Args:
        trained: The training form.
        folded: The deployed or the plain form; both stay as they are.

    Returns:
        The difference, and what was compared.

    Raises:
        UserError: If the output of the training form is not finite, so that nothing can be compared.
    """
    trained, folded = (copy.deepcopy(model).double().cpu() for model in (trained, folded))
    for layer in pd_layers(trained).values():
        layer.compute = 'branches'
    pairs = [(name, layer, folded.get_submodule(name)) for name, layer in pd_layers(trained).items()]
    pairs = [(name, layer, twin) for name, layer, twin in pairs if type(twin) is type(layer)]
    results = [(name, _layer_call(layer), layer, twin) for name, layer, twin in pairs]
    compared = [f'{len(results)} layers'] if results else []
    call = next((call for call in calls(trained) if _runs(trained, call)), None)
    if call is not None:
        results.append(('the model', call, trained, folded))
        compared.append(f'the model for random {call}')
    if not results:
        raise UserError('the model runs on no random image, so that the plain form cannot be compared')
    return max(_difference(*result) for result in results), ' and '.join(compared)


def _layer_call(layer: PDConv | PDLinear) -> Call:
    """Return a call on the smallest input that shows the inside and the borders."""
    shape = (2, 3, layer.in_features) if isinstance(layer, PDLinear) else (2, layer.in_channels)
    if isinstance(layer, PDConv):
        reach = max(d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True))
        shape += (reach + 3, reach + 4)
    return Call('__call__', (torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64),))


def _runs(model: nn.Module, call: Call) -> bool:
    try:
        outputs_of(model, call)
    except Exception:  # of somebody's model on an input that may not be one of its
        return False
    return True


def _difference(name: str, call: Call, trained: nn.Module, folded: nn.Module) -> float:
    pairs = list(zip(outputs_of(folded, call), outputs_of(trained, call), strict=True))
    if not all(theirs.isfinite().all() for _, theirs in pairs):
        raise UserError(f'{name} gives values that are not finite for random {call}, before it is folded')
    return max((relative_difference(ours, theirs) for ours, theirs in pairs if theirs.numel()), default=0.0)
