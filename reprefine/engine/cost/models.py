"""Building models for cost measurements: random weights, without loading or logging."""

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.model import revert_sync_batchnorm
from torch import nn

from reprefine.deploy import switch_to_deploy
from reprefine.engine.build import build_model

# Arguments of models that name weights to load.
CHECKPOINT_KEYS = ('pretrained', 'checkpoint')


def without_pretrained(cfg: Any) -> Any:
    """Return a copy of a model config that loads no pretrained weights.

    Args:
        cfg: Model config, or any part of one.
    """
    if isinstance(cfg, dict):
        if cfg.get('type') == 'Pretrained':
            return None
        kept = {key: None if key in CHECKPOINT_KEYS else without_pretrained(value) for key, value in cfg.items()}
        return type(cfg)(kept)
    if isinstance(cfg, (list, tuple)):
        return type(cfg)(part for item in cfg if (part := without_pretrained(item)) is not None or item is None)
    return copy.deepcopy(cfg)


def build_untrained(cfg: Config, device: str | torch.device = 'cpu', seed: int = 0) -> nn.Module:
    """Build the model of a config with random weights.

    Args:
        cfg: Complete config; its ``default_scope`` must be set already.
        device: Device of the model.
        seed: Seed of the weights, so that config and baseline start alike.

    Returns:
        The model in training mode. SyncBN layers become BatchNorm, as in a single process.
    """
    torch.manual_seed(seed)
    with quiet_log():
        parts = dict(model=without_pretrained(cfg.model), data_preprocessor=cfg.get('data_preprocessor'))
        model = build_model(Config(parts))
        if hasattr(model, 'init_weights'):
            model.init_weights()
    return revert_sync_batchnorm(model).to(device)


@contextlib.contextmanager
def quiet_log() -> Iterator[None]:
    """Suppress the log of weight initialisation and optimizers, which has several lines per parameter."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel('WARNING')
    try:
        yield
    finally:
        logger.setLevel(level)


def deployed_copy(model: nn.Module) -> nn.Module:
    """Return a copy of a model in the deployed form, in evaluation mode; the model itself is unchanged."""
    return switch_to_deploy(copy.deepcopy(model).eval())
