"""Export of the backbone of a distilled student."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reprefine.engine.checkpoints.checkpoint import read_checkpoint
from reprefine.engine.checkpoints.entries import select_weights
from reprefine.engine.errors import UserError
from reprefine.engine.files import atomic_write

from ..policy.schedule_hooks import DRAW_COUNTS
from ..policy.selector_hook import SELECTOR_KEY

BACKBONE_PREFIX = 'student.backbone.'


def export_backbone(
    source: str | Path,
    target: str | Path,
    prefix: str = '',
    checkpoint_key: str | None = None,
    revise_keys: Sequence[tuple[str, str]] = (),
) -> dict[str, Any]:
    """Write the backbone of the student in a checkpoint to a file of its own.

    The keys of a ResNet are those of torchvision. With EMA the averaged weights are written.

    Args:
        source: Checkpoint of a :class:`RepFusionDistiller`, read weights-only.
        target: File to write, atomically.
        prefix: Added to every key, such as ``backbone.`` for mmpretrain.
        checkpoint_key: Entry of the source that holds the weights.
        revise_keys: Pairs of pattern and replacement for their names.

    Returns:
        ``meta`` of the file: ``teacher`` (fingerprint), ``config_hash`` (SHA-256 of the config's text), ``epoch``,
        ``iter``, and ``timesteps`` (how often a policy selected each, ``[T]``); None for what the checkpoint lacks.

    Raises:
        UserError: If the target exists, or the source is no checkpoint of a distillation.
    """
    if Path(target).exists():
        raise UserError(f'{target} exists: give another name, or remove it')
    checkpoint = select_weights(read_checkpoint(str(source)), str(source), checkpoint_key, revise_keys)
    weights = {key: value for key, value in checkpoint.get('state_dict', {}).items() if key.startswith(BACKBONE_PREFIX)}
    if not weights:
        raise UserError(f'{source} has no weights {BACKBONE_PREFIX}*: give a checkpoint of a distillation')
    run, selector = checkpoint.get('meta', {}), checkpoint.get(SELECTOR_KEY)
    text = run.get('cfg')
    meta = dict(
        teacher=checkpoint.get(DRAW_COUNTS, {}).get('fingerprint'),
        config_hash=hashlib.sha256(text.encode()).hexdigest() if isinstance(text, str) else None,
        epoch=run.get('epoch'),
        iter=run.get('iter'),
        timesteps=None if selector is None else _selection_counts(selector['histogram']),
    )
    renamed = {prefix + key.removeprefix(BACKBONE_PREFIX): value for key, value in weights.items()}
    with atomic_write(target) as partial:
        torch.save(dict(meta=meta, state_dict=renamed), partial)
    return meta


def _selection_counts(histogram: dict[str, dict[str, Tensor]]) -> list[int]:
    return (histogram['rows']['counts'].sum(dim=0) + histogram['running']['counts']).long().tolist()
