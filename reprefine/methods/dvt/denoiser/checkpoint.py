"""Weights of denoisers and distilled transformers: those of this package, and those of the released code.

A released denoiser is ``{'denoiser': state}`` with the table ``pos_embed`` and its block below ``denoiser.``, or below
``denoiser.<i>.`` if there are several. A released distilled transformer is ``{'model': state}`` in timm's names, each
below ``model.``. Every key is accounted for in both directions.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from reprefine.engine.checkpoints.checkpoint import read_checkpoint
from reprefine.engine.checkpoints.method_keys import added_names
from reprefine.engine.checkpoints.rename_keys import rename_key, unwrap_state_dict
from reprefine.engine.checkpoints.weights import KeyMatch, load_weights
from reprefine.engine.errors import UserError
from reprefine.engine.files import atomic_write

from ..stage1.storage import first_difference

OWN = 'neck.denoiser.'
META = 'dvt'
STUDENT = 'backbone.vit.'
PUBLISHED_BLOCKS = ((r'^denoiser\.(\d+)\.', r'blocks.\1.'), (r'^denoiser\.(?!\d)', 'blocks.0.'))


def denoiser_weights(checkpoint: Mapping[str, Any], renames: Sequence[tuple[str, str]] = ()) -> dict[str, Tensor]:
    """Return the state of a :class:`~.denoiser.FeatureDenoiser` that a checkpoint holds.

    Args:
        checkpoint: Of a model with :class:`~.neck.DVTDenoiser` as its neck, or of the released code.
        renames: Pairs of pattern and replacement for the names in the file, applied first.
    """
    weights = _renamed(unwrap_state_dict(dict(checkpoint), ('state_dict', 'denoiser')), renames)
    if any(name.startswith(OWN) for name in weights):
        return {name.removeprefix(OWN): value for name, value in weights.items() if name.startswith(OWN)}
    return {rename_key(name, PUBLISHED_BLOCKS): value for name, value in weights.items()}


def vit_weights(checkpoint: Mapping[str, Any], renames: Sequence[tuple[str, str]] = ()) -> dict[str, Tensor]:
    """Return the state of timm's transformer in a checkpoint of a distillation, ours or the released code's."""
    weights = _renamed(unwrap_state_dict(dict(checkpoint), ('state_dict', 'model')), renames)
    for prefix in (STUDENT, 'model.'):
        if weights and all(name.startswith(prefix) for name in weights):
            return {name.removeprefix(prefix): value for name, value in weights.items()}
    return weights


def _renamed(weights: Mapping[str, Any], renames: Sequence[tuple[str, str]]) -> dict[str, Tensor]:
    tensors = {name: value for name, value in weights.items() if torch.is_tensor(value)}
    return {rename_key(name.removeprefix('module.'), renames): value for name, value in tensors.items()}


def fill_exactly(module: nn.Module, weights: Mapping[str, Tensor], filename: str, hint: str) -> None:
    """Load weights that must have exactly the names and shapes of the module's own.

    Another method may have converted layers of the module: what it has added to them is in no file of the module, and
    layers in the place of others take the weights of those.

    Args:
        module: Module to fill.
        weights: State dict.
        filename: Where it comes from, for the message.
        hint: What to do if only shapes differ.

    Raises:
        UserError: If a weight is missing, left over, or of another shape; the module is then as it was.
    """
    before = {name: value.clone() for name, value in module.state_dict().items()}
    match = load_weights(module, weights, allowed_missing=added_names(module))
    if reason := _misfit(match, hint):
        module.load_state_dict(before)
        raise UserError(f'{filename}{reason}')


def _misfit(match: KeyMatch, hint: str) -> str | None:
    """Return how weights do not fit a module exactly, to follow the name of their file; None if they do."""
    kinds = {'lacks': match.missing, 'has in addition': match.unexpected}
    if parts := [f'it {kind} {_listing(sorted(names))}' for kind, names in kinds.items() if names]:
        return f' does not fit: {" and ".join(parts)}'
    for name, (theirs, ours) in (match.mismatched | match.resized).items():
        return f': {name} has shape {tuple(theirs)}, the model needs {tuple(ours)}; {hint}'
    return None


def _listing(names: Sequence[str]) -> str:
    return ', '.join(names[:4]) + (f' and {len(names) - 4} more' if len(names) > 4 else '')


def load_denoiser(denoiser: nn.Module, filename: str, features: Mapping[str, Any] | None = None) -> None:
    """Fill a denoiser from a file.

    Args:
        denoiser: A :class:`~.denoiser.FeatureDenoiser`.
        filename: Checkpoint, see :func:`denoiser_weights`.
        features: What the features are that it will see, such as ``model_id``. Where the file tells what it was
            trained on, both must agree.

    Raises:
        UserError: If the file cannot be read, does not fill the denoiser exactly, or is for other features.
    """
    checkpoint = read_checkpoint(filename)
    meta = checkpoint.get('meta', {})
    trained_on = meta.get(META) or (meta.get('dataset_meta') or {}).get(META, {})  # the former in older files
    if difference := first_difference(trained_on, features or {}):
        raise UserError(
            f'{filename} was trained on features with {difference}; '
            'take the denoiser of this backbone, and see that its images are prepared as in its training'
        )
    fill_exactly(denoiser, denoiser_weights(checkpoint), filename, 'set grid and in_channels to those of the file')


def import_denoiser(denoiser: nn.Module, source: str, target: str, renames: Sequence[tuple[str, str]] = ()) -> int:
    """Write a released denoiser under the names of a model with the neck; return the number of tensors.

    Raises:
        UserError: If the target exists or the file does not fill the denoiser exactly.
    """
    refuse_existing(target)
    weights = denoiser_weights(read_checkpoint(source), renames)
    fill_exactly(denoiser, weights, source, 'set model.neck.grid and in_channels to those of the file')
    _write({f'{OWN}{name}': value for name, value in weights.items()}, source, target)
    return len(weights)


def import_vit(vit: nn.Module, source: str, target: str, renames: Sequence[tuple[str, str]] = ()) -> int:
    """Write a distilled transformer in timm's names, as ``TimmViT(checkpoint=…)`` reads it; return its tensors.

    Raises:
        UserError: If the target exists or the file does not fill the transformer exactly.
    """
    refuse_existing(target)
    weights = vit_weights(read_checkpoint(source), renames)
    fill_exactly(vit, weights, source, 'set model.backbone.img_size to the size it was distilled at')
    _write(weights, source, target)
    return len(weights)


def refuse_existing(target: str) -> None:
    """Refuse to write over a file."""
    if Path(target).exists():
        raise UserError(f'{target} exists: give another name, or remove it')


def _write(weights: Mapping[str, Tensor], source: str, target: str) -> None:
    with atomic_write(target) as partial:
        torch.save(dict(meta=dict(source=Path(source).name), state_dict=dict(weights)), partial)
