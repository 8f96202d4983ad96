"""Non-blocking copies of batches to a GPU."""

import torch
from mmengine.config import Config
from mmengine.model import BaseDataPreprocessor
from torch import nn

from reprefine.engine.config_check.walk import find_values


def should_copy_non_blocking(cfg: Config) -> bool:
    """Whether batches are copied to a GPU from pinned memory and the config does not set ``non_blocking`` itself.

    Args:
        cfg: Complete config.
    """
    pinned = (cfg.get('train_dataloader') or {}).get('pin_memory', False)
    return torch.cuda.is_available() and bool(pinned) and not list(find_values(cfg.to_dict(), 'non_blocking'))


def set_non_blocking(model: nn.Module) -> None:
    """Let the data preprocessors of a model copy batches with ``non_blocking=True``.

    Args:
        model: Changed in place.
    """
    for module in model.modules():
        if isinstance(module, BaseDataPreprocessor):
            module._non_blocking = True
