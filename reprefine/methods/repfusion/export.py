"""What leaves the method: diffusion models in the layout of diffusers' pipelines, and distilled backbones."""

import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn

from reprefine.engine.build import unwrap
from reprefine.engine.checkpoints.checkpoint import read_checkpoint
from reprefine.engine.checkpoints.entries import select_weights
from reprefine.engine.errors import UserError
from reprefine.engine.files import atomic_write
from reprefine.registry import HOOKS

from .hooks import DRAWS
from .selector_hook import KEY

STUDENT = 'student.backbone.'


def save_teacher(model: nn.Module, state_dict: Mapping[str, Tensor], folder: str | Path) -> None:
    """Write network and scheduler as ``DDPMPipeline.save_pretrained`` does; the folder appears whole or not at all.

    Args:
        model: A :class:`.diffusion.DenoisingDiffusion`, for its configs.
        state_dict: Weights of that model, such as those of a checkpoint.
        folder: Target, replaced if it exists.
    """
    from diffusers import DDPMPipeline, UNet2DModel

    unet = UNet2DModel.from_config(model.unet.config)
    prefix = 'unet.'
    unet.load_state_dict({key.removeprefix(prefix): v for key, v in state_dict.items() if key.startswith(prefix)})
    target = Path(folder)
    partial, old = (target.with_name(f'.{target.name}.{os.getpid()}.{part}') for part in ('new', 'old'))
    try:
        DDPMPipeline(unet, model.scheduler).save_pretrained(partial)
        if target.exists():
            target.rename(old)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


@HOOKS.register_module()
class SaveTeacherHook(Hook):
    """Writes ``<work_dir>/teacher`` with every checkpoint: the weights that the checkpoint holds, so EMA's if used."""

    # Behind EMAHook, which exchanges the weights of the checkpoint at the same point.
    priority = 'VERY_LOW'

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Write the folder."""
        save_teacher(unwrap(runner.model), checkpoint['state_dict'], Path(runner.work_dir) / 'teacher')


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
        source: Checkpoint of a :class:`.algorithm.RepFusionDistiller`, read weights-only.
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
