"""Checkpoints of MoCo: those of PyContrast (the released code), of facebookresearch/moco, of torchvision, and ours.

Every format is a list of pairs of key prefixes, ours and theirs, that is read in either direction. The neck is one
linear layer (``fc``, MoCo v1) or two (``mlp``, MoCo v2). What has no counterpart is an error, never left out silently.
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
    """Write the checkpoint of a MoCo anew in another format.

    Args:
        source: Checkpoint of PyContrast, facebookresearch/moco, mmpretrain or this package, read weights-only.
        target: File to write; it appears whole or not at all.
        to: One of :data:`FORMATS`; ``'torchvision'`` keeps the backbone alone.

    Returns:
        The format of the source, and the number of tensors written.

    Raises:
        UserError: If the target exists, or the source cannot be read, is no MoCo, or has weights of unknown meaning.
    """
    if Path(target).exists():
        raise UserError(f'{target} exists: give another name, or remove it')
    # PyContrast stores its command line in the file, a plain record.
    with torch.serialization.safe_globals([argparse.Namespace]):
        checkpoint = read_checkpoint(str(source))
    try:
        found = format_of(checkpoint)
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


def format_of(checkpoint: dict[str, Any]) -> str:
    """Tell the format of a checkpoint by its keys.

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
    raise UserError('it is no MoCo of PyContrast, facebookresearch/moco, mmpretrain or this package')


def to_reprefine(checkpoint: dict[str, Any], found: str) -> Weights:
    """Return the state dict of a :class:`~.algorithm.MoCoFT` from a foreign checkpoint.

    Queue and key encoder are there if the file has them. The pointer of a PyContrast queue, which the file lacks, is 0.

    Args:
        checkpoint: Content of the file.
        found: Its format, ``'pycontrast'`` or ``'facebook'``.

    Raises:
        UserError: If a key has no place in the model.
    """
    flat = _flatten(checkpoint) if found == 'pycontrast' else _without_module(checkpoint['state_dict'])
    two_layers = any(re.search(r'[/.](head|fc)\.2\.', key) for key in flat)
    pairs = [(theirs, ours) for ours, theirs in pairs_of(found, two_layers)]
    state_dict = {_renamed(key, pairs): value for key, value in flat.items()}
    if found == 'pycontrast' and 'queue' in state_dict:
        state_dict['queue'] = state_dict['queue'].T.contiguous()
        state_dict['queue_ptr'] = torch.zeros(1, dtype=torch.long)
    if any(key.startswith('encoder_k.') for key in state_dict):
        state_dict['encoder_k.steps'] = torch.tensor(1)  # at 0 the first step would overwrite the key encoder
    return state_dict


def from_reprefine(state_dict: Weights, to: str) -> dict[str, Any]:
    """Return a checkpoint in a foreign format.

    Args:
        state_dict: State dict of a :class:`~.algorithm.MoCoFT` or of mmpretrain's MoCo.
        to: ``'pycontrast'``, ``'facebook'`` or ``'torchvision'``.

    Raises:
        UserError: If a key has no place in that format.
    """
    if to == 'torchvision':
        backbone = {key: value for key, value in state_dict.items() if key.startswith('backbone.')}
        return {_renamed(key, pairs_of(to, False)): value for key, value in backbone.items()}
    kept = {key: value for key, value in state_dict.items() if key != 'encoder_k.steps'}
    pairs = pairs_of(to, 'neck.mlp.0.weight' in kept)
    if to == 'facebook':
        return dict(state_dict={f'module.{_renamed(key, pairs)}': value for key, value in kept.items()})
    kept.pop('queue_ptr', None)
    nested: dict[str, Any] = {}
    for key, value in kept.items():
        part, name = _renamed(key, pairs).split('/')
        name = f'module.{name}' if part == 'model' else name
        nested.setdefault(part, {})[name] = value.T.contiguous() if part == 'contrast' else value
    return nested


def pairs_of(name: str, two_layers: bool) -> Pairs:
    """Return the prefixes of keys, ours and those of the format ``name``.

    Args:
        name: Format other than ours.
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
        pairs += [(neck + ours, head + theirs) for ours, theirs in layers] + [(backbone, encoder)]
    return pairs + rest


def _renamed(key: str, pairs: Pairs) -> str:
    for old, new in pairs:
        if not key.startswith(old):
            continue
        rest = key[len(old) :]
        is_backbone = 'backbone.' in (old, new) or 'encoder_k.module.0.' in (old, new)
        if BACKBONE.match(rest) if is_backbone else rest in ('', 'weight', 'bias'):
            return new + rest
    raise UserError(f"'{key.replace('/', '.')}' has no counterpart: only a ResNet with the head of MoCo v1 or v2 has")


def _flatten(checkpoint: dict[str, Any]) -> Weights:
    parts = {part: checkpoint[part] for part in ('model', 'model_ema', 'contrast') if part in checkpoint}
    return {
        f'{part}/{key}': value for part, weights in parts.items() for key, value in _without_module(weights).items()
    }


def _without_module(weights: Weights) -> Weights:
    return {key.removeprefix('module.'): value for key, value in weights.items()}


def _count(tree: dict[str, Any]) -> int:
    return sum(_count(value) if isinstance(value, dict) else 1 for value in tree.values())
