"""Export of a trained diffusion model in the layout of diffusers' pipelines."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn

from reprefine.engine.build import unwrap
from reprefine.registry import HOOKS


def save_teacher(model: nn.Module, state_dict: Mapping[str, Tensor], folder: str | Path) -> None:
    """Write UNet and scheduler as ``DDPMPipeline.save_pretrained`` does, atomically.

    Args:
        model: A :class:`DenoisingDiffusion`, whose configs are used.
        state_dict: Weights of that model, such as those of a checkpoint.
        folder: Output folder; replaced if it exists.
    """
    from diffusers import DDPMPipeline, UNet2DModel

    unet = UNet2DModel.from_config(model.unet.config)
    prefix = 'unet.'
    unet.load_state_dict({key.removeprefix(prefix): v for key, v in state_dict.items() if key.startswith(prefix)})
    target = Path(folder)
    partial, old = (target.with_name(f'.{target.name}.{os.getpid()}.{suffix}') for suffix in ('new', 'old'))
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
    """Writes ``<work_dir>/teacher`` with every checkpoint, with the checkpoint's weights, which are EMA's if used."""

    # After EMAHook, which swaps the weights of the checkpoint at the same hook point.
    priority = 'VERY_LOW'

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Write the folder."""
        save_teacher(unwrap(runner.model), checkpoint['state_dict'], Path(runner.work_dir) / 'teacher')
