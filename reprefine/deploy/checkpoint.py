"""Reparameterisation of a checkpoint file: from the training form to the deployed form or the baseline."""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from reprefine.engine.checkpoints.checkpoint import read_checkpoint
from reprefine.engine.checkpoints.entries import select_weights
from reprefine.engine.checkpoints.publish import TORCH_SUFFIXES, clean_meta, copy_tensors
from reprefine.engine.checkpoints.safetensor_files import SUFFIX, is_safetensors, write_safetensors
from reprefine.engine.checkpoints.weights import check_finite, load_weights
from reprefine.engine.errors import UserError
from reprefine.engine.files import atomic_write

from .compare import Comparison, compare
from .examples import Example
from .forms import baseline_copy
from .meta import DEPLOYED_META, deployed_layers
from .protocol import is_deployable, reparameterized_layers, switch_to_deploy

_KEPT_META = ('dataset_meta', 'epoch', 'iter', 'mmengine_version')


class Reparameterization(NamedTuple):
    """Result of the reparameterisation of a checkpoint.

    Attributes:
        model: The deployed model.
        written: The model whose state dict is to be written: the deployed model, or the one that has loaded it.
        layers: Types of the training form of the reparameterised layers, by name.
        parameters: Number of parameters of the training form.
        comparison: Differences between the outputs of the two forms.
        tolerance: Largest relative difference that is accepted as rounding.
        averaged: Whether the weights are the moving average of the run (EMA).
        meta: Meta data for the checkpoint to write.
    """

    model: nn.Module
    written: nn.Module
    layers: dict[str, str]
    parameters: int
    comparison: Comparison
    tolerance: float
    averaged: bool
    meta: dict


def reparameterize_file(
    model: nn.Module,
    source: str | Path,
    target: str | Path,
    examples: Sequence[Example] = (),
    overwrite: bool = False,
    tolerance: float | None = None,
) -> Reparameterization:
    """Reparameterise a checkpoint, compare the outputs of both forms, and write the result.

    Args:
        model: As in :func:`reparameterize_checkpoint`.
        source: Checkpoint of its training run.
        target: As in :func:`write_checkpoint`.
        examples: As in :func:`reparameterize_checkpoint`.
        overwrite: Whether an existing target may be replaced.
        tolerance: As in :func:`reparameterize_checkpoint`.

    Raises:
        UserError: As :func:`check_target` and :func:`reparameterize_checkpoint`.
    """
    check_target(target, overwrite)
    result = reparameterize_checkpoint(model, source, examples, tolerance=tolerance)
    write_checkpoint(result, target)
    return result


def check_target(target: str | Path, overwrite: bool = False) -> None:
    """Check that a checkpoint can be written to a path.

    Args:
        target: The path.
        overwrite: Whether an existing file may be replaced.

    Raises:
        UserError: If it is neither ``.pth`` nor ``.safetensors``, or exists.
    """
    if not str(target).endswith((*TORCH_SUFFIXES, SUFFIX)):
        raise UserError(f'{target} is neither a .pth nor a {SUFFIX} file: give a path with one of these suffixes')
    if Path(target).exists() and not overwrite:
        raise UserError(f'{target} exists: give another name, or remove it')


def reparameterize_checkpoint(
    model: nn.Module,
    source: str | Path,
    examples: Sequence[Example] = (),
    into: nn.Module | None = None,
    to_baseline: bool = False,
    tolerance: float | None = None,
    checkpoint_key: str | None = None,
    revise_keys: Sequence[tuple[str, str]] = (),
) -> Reparameterization:
    """Load a checkpoint of the training form, switch the model to the deployed form, and compare their outputs.

    Args:
        model: Model of the checkpoint's config, in training form; reparameterised in place.
        source: Checkpoint of its training run. The weights are those of the moving average if the run kept one.
        examples: Inputs on which the models are compared; the reparameterised layers are compared in any case.
        into: Model of the deployed or the baseline config. It must load the result strictly, and is compared in place
            of the deployed model. None: the result is not loaded again.
        to_baseline: Give the weights the names of the baseline.
        tolerance: Largest relative difference accepted as rounding; default :data:`~.compare.TOLERANCES`.
        checkpoint_key: Entry of the source that holds the weights.
        revise_keys: Pairs of regular expression and replacement for the names of the weights.

    Raises:
        UserError: If no layer is deployable, the checkpoint is deployed already, does not fit the model, or holds
            weights that are not finite, the baseline cannot compute the same, or the outputs differ.
    """
    if not any(map(is_deployable, model.modules())):
        raise UserError(
            'the model of the config has no deployable layer: give the config that the checkpoint was trained with'
        )
    checkpoint = select_weights(read_checkpoint(str(source)), str(source), checkpoint_key, revise_keys)
    if done := deployed_layers(checkpoint):
        raise UserError(
            f'{source} is deployed already ({", ".join(sorted(set(done.values())))}): give one in training form'
        )
    match = load_weights(model, checkpoint)
    if not match.exact:
        raise UserError(f'{source} does not fit the config, or is deployed already: {match}')
    check_finite(model, str(source))
    parameters, trained = sum(p.numel() for p in model.parameters()), copy.deepcopy(model)
    model.eval()
    switch_to_deploy(model)
    layers = reparameterized_layers(trained, model)
    if not layers:
        raise UserError('the config builds the deployed form already: give the config of the training run')
    written = _written(model, into, to_baseline)
    comparison = compare(trained, model, examples, layers, written)
    allowed = comparison.tolerance if tolerance is None else tolerance
    _check_equal(comparison, allowed, str(source))
    meta = clean_meta(_kept_meta(checkpoint.get('meta'))) | {DEPLOYED_META: layers}
    averaged = checkpoint_key in (None, 'state_dict') and 'ema_state_dict' in checkpoint
    return Reparameterization(model, written, layers, parameters, comparison, allowed, averaged, meta)


def _kept_meta(meta: Any) -> dict:
    return {key: meta[key] for key in _KEPT_META if key in meta} if isinstance(meta, Mapping) else {}


def _written(deployed: nn.Module, into: nn.Module | None, to_baseline: bool) -> nn.Module:
    """Return the model whose state dict is written: ``into`` once it has loaded the weights, if given."""
    renamed = baseline_copy(deployed) if to_baseline else deployed
    if into is None:
        return renamed
    match = load_weights(into, renamed.state_dict())
    if not match.exact:
        form = 'baseline' if to_baseline else 'deployed model'
        raise UserError(f'the reparameterised weights do not fit the {form}: {match}; nothing is written')
    into.eval()
    return into


def _check_equal(comparison: Comparison, allowed: float, source: str) -> None:
    if (above := comparison.first_above(allowed)) is not None:
        name, difference = above
        raise UserError(
            f'{source}: the deployed form of {name} differs by {difference:.1e} of its largest output, more than '
            f'{allowed:.1e}; nothing is written'
        )


def write_checkpoint(result: Reparameterization, target: str | Path) -> None:
    """Write weights and meta data of a reparameterised checkpoint, without optimiser and message hub.

    Args:
        result: Result of :func:`reparameterize_checkpoint`.
        target: ``.pth`` or ``.safetensors`` file, written atomically.
    """
    state_dict = copy_tensors(result.written.state_dict(), shared=not is_safetensors(str(target)))
    with atomic_write(target) as partial:
        if is_safetensors(partial):
            write_safetensors(state_dict, result.meta, partial)
        else:
            torch.save(dict(meta=result.meta, state_dict=state_dict), partial)
