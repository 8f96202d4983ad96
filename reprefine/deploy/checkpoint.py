"""Folding a checkpoint file: from what training saves to what a deployed or a plain config loads."""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from reprefine.deploy.compare import Comparison, compare
from reprefine.deploy.examples import Example
from reprefine.deploy.forms import baseline_copy
from reprefine.deploy.meta import DEPLOYED_META, deployed_layers
from reprefine.deploy.protocol import is_deployable, reparameterized_layers, switch_to_deploy
from reprefine.engine.checkpoints.checkpoint import read_checkpoint
from reprefine.engine.checkpoints.entries import select_weights
from reprefine.engine.checkpoints.publish import TORCH_SUFFIXES, clean_meta, own_memory
from reprefine.engine.checkpoints.safetensor_files import SUFFIX, is_safetensors, write_safetensors
from reprefine.engine.checkpoints.weights import check_finite, load_weights
from reprefine.engine.errors import UserError
from reprefine.engine.files import atomic_write

_KEPT_META = ('dataset_meta', 'epoch', 'iter', 'mmengine_version')


class Reparameterization(NamedTuple):
    """A checkpoint that was folded and found equal.

    Attributes:
        model: The folded model.
        written: The model whose state is to be written: the folded one, or what it was loaded into.
        layers: Type of the training form of what was folded, by name.
        parameters: Number in the training form.
        comparison: How far the two forms are apart.
        tolerance: What counted as rounding.
        averaged: Whether the weights are the moving average of the run (EMA).
        meta: What the file to write records.
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
    """Fold a checkpoint, check that it computes the same, and write it.

    Args:
        model: As in :func:`reparameterize_checkpoint`.
        source: Checkpoint of its training.
        target: As in :func:`write_checkpoint`.
        examples: As in :func:`reparameterize_checkpoint`.
        overwrite: Whether an existing target may be replaced.
        tolerance: As in :func:`reparameterize_checkpoint`.

    Raises:
        UserError: As :func:`check_target` and :func:`reparameterize_checkpoint`.
    """
    check_target(target, overwrite)
    folding = reparameterize_checkpoint(model, source, examples, tolerance=tolerance)
    write_checkpoint(folding, target)
    return folding


def check_target(target: str | Path, overwrite: bool = False) -> None:
    """Refuse a file that cannot be written.

    Raises:
        UserError: If it is neither ``.pth`` nor ``.safetensors``, or exists.
    """
    if not str(target).endswith((*TORCH_SUFFIXES, SUFFIX)):
        raise UserError(f'{target}: a checkpoint is a .pth or a {SUFFIX} file')
    if Path(target).exists() and not overwrite:
        raise UserError(f'{target} exists: give another name, or remove it')


def reparameterize_checkpoint(
    model: nn.Module,
    source: str | Path,
    examples: Sequence[Example] = (),
    into: nn.Module | None = None,
    plain: bool = False,
    tolerance: float | None = None,
    checkpoint_key: str | None = None,
    revise_keys: Sequence[tuple[str, str]] = (),
) -> Reparameterization:
    """Load a training checkpoint, fold the model, and check that it computes the same.

    Args:
        model: Model of the checkpoint's config, in training form; folded in place.
        source: Checkpoint of its training. If the run kept a moving average, that is what it holds as weights.
        examples: Inputs on which the two forms are compared, beside the folded layers.
        into: Model of the deployed or the plain config, which must load the result strictly, and is then what is
            compared; None: what is written is not tried.
        plain: Give the weights the names of the plain model.
        tolerance: Largest relative difference that counts as rounding, default as :data:`~.compare.TOLERANCES`.
        checkpoint_key: Entry of the source that holds the weights.
        revise_keys: Pairs of pattern and replacement for their names.

    Raises:
        UserError: If nothing folds, the checkpoint is folded already, does not fit, or holds weights that are not
            finite, a plain form does not exist, or what would be written differs.
    """
    if not any(map(is_deployable, model.modules())):
        raise UserError('nothing in the model of the config folds: give the config the checkpoint was trained with')
    checkpoint = select_weights(read_checkpoint(str(source)), str(source), checkpoint_key, revise_keys)
    if done := deployed_layers(checkpoint):
        raise UserError(f'{source} is folded already ({", ".join(sorted(set(done.values())))}): give an unfolded one')
    match = load_weights(model, checkpoint)
    if not match.exact:
        raise UserError(f'{source} does not fit the config, or is folded already: {match}')
    check_finite(model, str(source))
    parameters, trained = sum(p.numel() for p in model.parameters()), copy.deepcopy(model)
    model.eval()
    switch_to_deploy(model)
    layers = reparameterized_layers(trained, model)
    if not layers:
        raise UserError('nothing was folded, the config builds the deployed form: give the one of the training')
    written = _written(model, into, plain)
    comparison = compare(trained, model, examples, layers, written)
    allowed = comparison.tolerance if tolerance is None else tolerance
    _check_equal(comparison, allowed, str(source))
    meta = clean_meta(_kept(checkpoint.get('meta'))) | {DEPLOYED_META: layers}
    averaged = checkpoint_key in (None, 'state_dict') and 'ema_state_dict' in checkpoint
    return Reparameterization(model, written, layers, parameters, comparison, allowed, averaged, meta)


def _kept(meta: Any) -> dict:
    return {key: meta[key] for key in _KEPT_META if key in meta} if isinstance(meta, Mapping) else {}


def _written(folded: nn.Module, into: nn.Module | None, plain: bool) -> nn.Module:
    renamed = baseline_copy(folded) if plain else folded
    if into is None:
        return renamed
    match = load_weights(into, renamed.state_dict())
    if not match.exact:
        form = 'plain' if plain else 'deployed'
        raise UserError(f'the folded weights are not those of the {form} model: {match}; nothing is written')
    into.eval()
    return into


def _check_equal(comparison: Comparison, allowed: float, source: str) -> None:
    if (above := comparison.first_above(allowed)) is not None:
        name, difference = above
        raise UserError(
            f'{source}: {name} differs by {difference:.1e} of its largest output once folded, more than {allowed:.1e}; '
            'nothing is written'
        )


def write_checkpoint(folding: Reparameterization, target: str | Path) -> None:
    """Write the folded weights and what was folded, without optimiser and message hub.

    Args:
        folding: What :func:`reparameterize_checkpoint` returned.
        target: ``.pth`` or ``.safetensors`` file; it appears whole or not at all.
    """
    state_dict = own_memory(folding.written.state_dict(), shared=not is_safetensors(str(target)))
    with atomic_write(target) as partial:
        if is_safetensors(partial):
            write_safetensors(state_dict, folding.meta, partial)
        else:
            torch.save(dict(meta=folding.meta, state_dict=state_dict), partial)
