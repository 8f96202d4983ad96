"""Copies of batches to a GPU that overlap with its work."""

from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import BaseDataPreprocessor
from torch import nn


def should_copy_non_blocking(cfg: Config) -> bool:
    """Whether batches go to a GPU from pinned memory, and the config does not decide on ``non_blocking`` itself.

    Args:
        cfg: Complete config.
    """
    pinned = (cfg.get('train_dataloader') or {}).get('pin_memory', False)
    return torch.cuda.is_available() and bool(pinned) and not _mentions(cfg.to_dict(), 'non_blocking')


def set_non_blocking(model: nn.Module) -> None:
    """Let the data preprocessors of a model go on while a batch is copied; the GPU keeps the order of its work.

    Args:
        model: Changed in place.
    """
    for part in model.modules():
        if isinstance(part, BaseDataPreprocessor):
            part._non_blocking = True


def _mentions(cfg: Any, key: str) -> bool:
    if isinstance(cfg, dict):
        return key in cfg or any(_mentions(value, key) for value in cfg.values())
    return isinstance(cfg, (list, tuple)) and any(_mentions(value, key) for value in cfg)
