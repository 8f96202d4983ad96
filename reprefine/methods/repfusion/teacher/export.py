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
    """Write network and scheduler as ``DDPMPipeline.save_pretrained`` does; the folder appears whole or not at all.

    Args:
        model: A :class:`DenoisingDiffusion`, for its configs.
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
