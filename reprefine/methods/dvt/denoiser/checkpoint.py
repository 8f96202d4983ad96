"""Checkpoints of denoisers and distilled ViTs, of this package and of the released code.

A released denoiser is ``{'denoiser': state}`` with the position embeddings ``pos_embed`` and its block with the prefix
``denoiser.``, or ``denoiser.<i>.`` if there are several. A released distilled ViT is ``{'model': state}`` with timm's
keys and the prefix ``model.``. Missing and unexpected keys are errors.
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
    """Return the state dict of the :class:`~.network.FeatureDenoiser` in a checkpoint.

    Args:
        checkpoint: Checkpoint of a model with :class:`~.neck.DVTDenoiser` as its neck, or of the released code.
        renames: Pairs of pattern and replacement for the names in the file, applied first.
    """
    weights = _renamed(unwrap_state_dict(dict(checkpoint), ('state_dict', 'denoiser')), renames)
    if any(name.startswith(OWN) for name in weights):
        return {name.removeprefix(OWN): value for name, value in weights.items() if name.startswith(OWN)}
    return {rename_key(name, PUBLISHED_BLOCKS): value for name, value in weights.items()}


def vit_weights(checkpoint: Mapping[str, Any], renames: Sequence[tuple[str, str]] = ()) -> dict[str, Tensor]:
    """Return the state dict of timm's ViT in a checkpoint of a distillation, of this package or the released code.

    Args:
        checkpoint: Checkpoint.
        renames: See :func:`denoiser_weights`.
    """
    weights = _renamed(unwrap_state_dict(dict(checkpoint), ('state_dict', 'model')), renames)
    for prefix in (STUDENT, 'model.'):
        if weights and all(name.startswith(prefix) for name in weights):
            return {name.removeprefix(prefix): value for name, value in weights.items()}
    return weights


def _renamed(weights: Mapping[str, Any], renames: Sequence[tuple[str, str]]) -> dict[str, Tensor]:
    tensors = {name: value for name, value in weights.items() if torch.is_tensor(value)}
    return {rename_key(name.removeprefix('module.'), renames): value for name, value in tensors.items()}


def load_exactly(module: nn.Module, weights: Mapping[str, Tensor], filename: str, hint: str) -> None:
    """Load a state dict that must have exactly the keys and shapes of the module.

    If another method has converted layers of the module, the parameters that it has added may be missing, and a layer
    that replaces another one loads the weights of that one.

    Args:
        module: Module to load into.
        weights: State dict.
        filename: File of the weights, for the message.
        hint: Remedy for a size mismatch, for the message.

    Raises:
        UserError: If a key is missing or unexpected, or a shape differs; the module is then unchanged.
    """
    before = {name: value.clone() for name, value in module.state_dict().items()}
    match = load_weights(module, weights, allowed_missing=added_names(module))
    if mismatch := _mismatch(match, hint):
        module.load_state_dict(before)
        raise UserError(f'{filename}{mismatch}')


def _mismatch(match: KeyMatch, hint: str) -> str | None:
    """Return how a state dict differs from that of a module, to follow the file name; None if it does not."""
    kinds = {'missing': match.missing, 'unexpected': match.unexpected}
    if parts := [f'{kind} keys {_shorten(sorted(names))}' for kind, names in kinds.items() if names]:
        return f' does not match the model: {" and ".join(parts)}; take a checkpoint of the same architecture'
    for name, (stored, wanted) in (match.mismatched | match.resized).items():
        return f': {name} has shape {tuple(stored)}, the model needs {tuple(wanted)}; {hint}'
    return None


def _shorten(names: Sequence[str]) -> str:
    return ', '.join(names[:4]) + (f' and {len(names) - 4} more' if len(names) > 4 else '')


def load_denoiser(denoiser: nn.Module, filename: str, features: Mapping[str, Any] | None = None) -> None:
    """Load the weights of a denoiser from a file.

    Args:
        denoiser: A :class:`~.network.FeatureDenoiser`.
        filename: Checkpoint, see :func:`denoiser_weights`.
        features: Metadata of the features that it will get, such as ``model_id``. It must agree with the metadata of
            the features that the denoiser was trained on, where the checkpoint holds these.

    Raises:
        UserError: If the file cannot be read, does not match the denoiser exactly, or is for other features.
    """
    checkpoint = read_checkpoint(filename)
    meta = checkpoint.get('meta', {})
    trained_on = meta.get(META) or (meta.get('dataset_meta') or {}).get(META, {})  # the former in older files
    if difference := first_difference(trained_on, features or {}):
        raise UserError(
            f'{filename} was trained on features with {difference}; '
            'take the denoiser of this backbone, and prepare images as in its training'
        )
    load_exactly(denoiser, denoiser_weights(checkpoint), filename, 'set grid and in_channels to those of the file')


def import_denoiser(denoiser: nn.Module, source: str, target: str, renames: Sequence[tuple[str, str]] = ()) -> int:
    """Convert a released denoiser to the keys of a model with the neck.

    Args:
        denoiser: The :class:`~.network.FeatureDenoiser` that the weights must match.
        source: Released checkpoint.
        target: Checkpoint to write.
        renames: See :func:`denoiser_weights`.

    Returns:
        The number of tensors.

    Raises:
        UserError: If the target exists or the checkpoint does not match the denoiser exactly.
    """
    raise_if_exists(target)
    weights = denoiser_weights(read_checkpoint(source), renames)
    load_exactly(denoiser, weights, source, 'set model.neck.grid and in_channels to those of the file')
    _write({f'{OWN}{name}': value for name, value in weights.items()}, source, target)
    return len(weights)


def import_vit(vit: nn.Module, source: str, target: str, renames: Sequence[tuple[str, str]] = ()) -> int:
    """Convert a distilled ViT to timm's keys, as ``TimmViT(checkpoint=…)`` loads it.

    Args:
        vit: The ViT that the weights must match.
        source: Checkpoint of a distillation.
        target: Checkpoint to write.
        renames: See :func:`denoiser_weights`.

    Returns:
        The number of tensors.

    Raises:
        UserError: If the target exists or the checkpoint does not match the ViT exactly.
    """
    raise_if_exists(target)
    weights = vit_weights(read_checkpoint(source), renames)
    load_exactly(vit, weights, source, 'set model.backbone.img_size to the size it was distilled at')
    _write(weights, source, target)
    return len(weights)


def raise_if_exists(target: str) -> None:
    """Raise ``UserError`` if the file exists."""
    if Path(target).exists():
        raise UserError(f'{target} exists; give another name, or remove it')


def _write(weights: Mapping[str, Tensor], source: str, target: str) -> None:
    with atomic_write(target) as partial:
        torch.save(dict(meta=dict(source=Path(source).name), state_dict=dict(weights)), partial)
