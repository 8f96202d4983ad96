"""Conversion of MoCo checkpoints of PyContrast (the released code), facebookresearch/moco, torchvision and reprefine.

Every format is a list of pairs of key prefixes, of reprefine and of the format, which is applied in either direction.
The neck is one linear layer (``fc``, MoCo v1) or two (``mlp``, MoCo v2). A key without counterpart raises an error.
"""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reprefine.engine.checkpoints.checkpoint import read_checkpoint
from reprefine.engine.checkpoints.method_keys import refuse_other_form
from reprefine.engine.errors import UserError
from reprefine.engine.files import atomic_write

FORMATS = ('reprefine', 'pycontrast', 'facebook', 'torchvision')
BACKBONE = re.compile(r'(conv1|bn1|layer[1-4]\.\d+)\.')
Pairs = Sequence[tuple[str, str]]
Weights = dict[str, Tensor]


def convert_checkpoint(source: str | Path, target: str | Path, to: str = 'reprefine') -> tuple[str, int]:
    """Convert a checkpoint of MoCo to another format.

    Args:
        source: Checkpoint of PyContrast, facebookresearch/moco, mmpretrain or this package, read weights-only.
        target: File to write, atomically.
        to: One of :data:`FORMATS`; ``'torchvision'`` has only the backbone.

    Returns:
        The format of the source, and the number of tensors written.

    Raises:
        UserError: If the target exists, or the source cannot be read, is not MoCo, or has unknown keys.
    """
    if Path(target).exists():
        raise UserError(f'{target} exists: give another name, or remove it')
    # Files of PyContrast contain the parsed command line.
    with torch.serialization.safe_globals([argparse.Namespace]):
        checkpoint = read_checkpoint(str(source))
    try:
        found = detect_format(checkpoint)
        state_dict = checkpoint['state_dict'] if found == 'reprefine' else to_reprefine(checkpoint, found)
        if to != 'reprefine':
            refuse_other_form(state_dict, Path(source).name)
        written = state_dict if to == 'reprefine' else from_reprefine(state_dict, to)
    except UserError as error:
        raise UserError(f'{source}: {error}') from error
    if to != 'reprefine':
        refuse_other_form(state_dict, str(source))
    result = dict(meta=dict(source=Path(source).name), state_dict=written) if to == 'reprefine' else written
    with atomic_write(target) as partial:
        torch.save(result, partial)
    return found, _count(written)


def detect_format(checkpoint: dict[str, Any]) -> str:
    """Return the format of a checkpoint, by its keys.

    Raises:
        UserError: If it is none of :data:`FORMATS` that can be read.
    """
    weights = checkpoint.get('state_dict')
    if isinstance(checkpoint.get('model'), dict) and weights is None:
        return 'pycontrast'
    if isinstance(weights, dict) and any(key.startswith('module.encoder_q.') for key in weights):
        return 'facebook'
    if isinstance(weights, dict) and 'backbone.conv1.weight' in weights:
        return 'reprefine'
    raise UserError(
        'it is not a MoCo checkpoint of PyContrast, facebookresearch/moco, mmpretrain or reprefine: use one'
    )


def to_reprefine(checkpoint: dict[str, Any], found: str) -> Weights:
    """Return the state dict of a :class:`~.moco.MoCoFT` for a checkpoint of another format.

    It has queue and key encoder if the file has them. Files of PyContrast lack the queue pointer, which is set to 0.

    Args:
        checkpoint: Content of the file.
        found: Its format, ``'pycontrast'`` or ``'facebook'``.

    Raises:
        UserError: If a key has no counterpart in the model.
    """
    flat = _flatten(checkpoint) if found == 'pycontrast' else _without_module(checkpoint['state_dict'])
    two_layers = any(re.search(r'[/.](head|fc)\.2\.', key) for key in flat)
    pairs = [(other, own) for own, other in key_prefixes(found, two_layers)]
    state_dict = {_renamed(key, pairs): value for key, value in flat.items()}
    if found == 'pycontrast' and 'queue' in state_dict:
        state_dict['queue'] = state_dict['queue'].T.contiguous()
        state_dict['queue_ptr'] = torch.zeros(1, dtype=torch.long)
    if any(key.startswith('encoder_k.') for key in state_dict):
        state_dict['encoder_k.steps'] = torch.tensor(1)  # with 0 the first step overwrites the key encoder
    return state_dict


def from_reprefine(state_dict: Weights, to: str) -> dict[str, Any]:
    """Return a checkpoint in another format.

    Args:
        state_dict: State dict of a :class:`~.moco.MoCoFT` or of mmpretrain's MoCo.
        to: ``'pycontrast'``, ``'facebook'`` or ``'torchvision'``.

    Raises:
        UserError: If a key has no counterpart in that format.
    """
    if to == 'torchvision':
        backbone = {key: value for key, value in state_dict.items() if key.startswith('backbone.')}
        return {_renamed(key, key_prefixes(to, False)): value for key, value in backbone.items()}
    kept = {key: value for key, value in state_dict.items() if key != 'encoder_k.steps'}
    pairs = key_prefixes(to, 'neck.mlp.0.weight' in kept)
    if to == 'facebook':
        return dict(state_dict={f'module.{_renamed(key, pairs)}': value for key, value in kept.items()})
    kept.pop('queue_ptr', None)
    nested: dict[str, Any] = {}
    for key, value in kept.items():
        part, name = _renamed(key, pairs).split('/')
        name = f'module.{name}' if part == 'model' else name
        nested.setdefault(part, {})[name] = value.T.contiguous() if part == 'contrast' else value
    return nested


def key_prefixes(name: str, two_layers: bool) -> Pairs:
    """Return the pairs of key prefixes, of reprefine and of the format ``name``.

    Args:
        name: Format other than ``'reprefine'``.
        two_layers: Whether the neck has two layers.
    """
    if name == 'torchvision':
        return [('backbone.', '')]
    layers = [('mlp.0.', '0.'), ('mlp.2.', '2.')] if two_layers else [('fc.', '0.' if name == 'pycontrast' else '')]
    sides = (('neck.', 'backbone.'), ('encoder_k.module.1.', 'encoder_k.module.0.'))
    if name == 'pycontrast':
        roots = [('model/head.', 'model/encoder.'), ('model_ema/head.', 'model_ema/encoder.')]
        rest = [('queue', 'contrast/memory')]
    else:
        roots = [('encoder_q.fc.', 'encoder_q.'), ('encoder_k.fc.', 'encoder_k.')]
        rest = [('queue_ptr', 'queue_ptr'), ('queue', 'queue')]
    pairs = []
    for (neck, backbone), (head, encoder) in zip(sides, roots, strict=True):
        pairs += [(neck + own, head + other) for own, other in layers] + [(backbone, encoder)]
    return pairs + rest


def _renamed(key: str, pairs: Pairs) -> str:
    for old, new in pairs:
        if not key.startswith(old):
            continue
        rest = key[len(old) :]
        is_backbone = 'backbone.' in (old, new) or 'encoder_k.module.0.' in (old, new)
        if BACKBONE.match(rest) if is_backbone else rest in ('', 'weight', 'bias'):
            return new + rest
    raise UserError(f"'{key.replace('/', '.')}' has no counterpart: use a ResNet with the head of MoCo v1 or v2")


def _flatten(checkpoint: dict[str, Any]) -> Weights:
    parts = {part: checkpoint[part] for part in ('model', 'model_ema', 'contrast') if part in checkpoint}
    return {
        f'{part}/{key}': value for part, weights in parts.items() for key, value in _without_module(weights).items()
    }


def _without_module(weights: Weights) -> Weights:
    return {key.removeprefix('module.'): value for key, value in weights.items()}


def _count(tree: dict[str, Any]) -> int:
    return sum(_count(value) if isinstance(value, dict) else 1 for value in tree.values())
