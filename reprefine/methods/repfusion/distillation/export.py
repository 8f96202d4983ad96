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

from ..policy.schedule_hooks import DRAWS
from ..policy.selector_hook import KEY

STUDENT = 'student.backbone.'


def export_backbone(
    source: str | Path,
    target: str | Path,
    prefix: str = '',
    checkpoint_key: str | None = None,
    revise_keys: Sequence[tuple[str, str]] = (),
) -> dict[str, Any]:
    """Write the student's backbone of a distillation alone.

    A ResNet's keys are those of torchvision. If the run averaged its weights, the averages are written.

    Args:
        source: Checkpoint of a :class:`RepFusionDistiller`, read weights-only.
        target: File to write; it appears whole or not at all.
        prefix: Put in front of every key, such as ``backbone.`` for mmpretrain.
        checkpoint_key: Entry of the source that holds the weights.
        revise_keys: Pairs of pattern and replacement for their names.

    Returns:
        What the file's ``meta`` says: ``teacher`` (fingerprint), ``config_hash`` (SHA-256 of the config's text),
        ``epoch``, ``iter``, and ``timesteps`` (how often a policy chose each, ``[T]``); None where it is not known.

    Raises:
        UserError: If the target exists, or the source is no such checkpoint.
    """
    if Path(target).exists():
        raise UserError(f'{target} exists: give another name, or remove it')
    checkpoint = select_weights(read_checkpoint(str(source)), str(source), checkpoint_key, revise_keys)
    weights = {key: value for key, value in checkpoint.get('state_dict', {}).items() if key.startswith(STUDENT)}
    if not weights:
        raise UserError(f'{source} holds no {STUDENT}*: give a checkpoint of a distillation')
    run, selector = checkpoint.get('meta', {}), checkpoint.get(KEY)
    text = run.get('cfg')
    meta = dict(
        teacher=checkpoint.get(DRAWS, {}).get('fingerprint'),
        config_hash=hashlib.sha256(text.encode()).hexdigest() if isinstance(text, str) else None,
        epoch=run.get('epoch'),
        iter=run.get('iter'),
        timesteps=None if selector is None else _chosen(selector['histogram']),
    )
    renamed = {prefix + key.removeprefix(STUDENT): value for key, value in weights.items()}
    with atomic_write(target) as partial:
        torch.save(dict(meta=meta, state_dict=renamed), partial)
    return meta


def _chosen(histogram: dict[str, dict[str, Tensor]]) -> list[int]:
    return (histogram['rows']['counts'].sum(dim=0) + histogram['running']['counts']).long().tolist()
