"""Building the models whose cost is measured."""

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
FILES = ('pretrained', 'checkpoint')


def without_pretrained(cfg: Any) -> Any:
    """Return a copy of a model config that loads no pretrained weights: cost does not depend on them.

    Args:
        cfg: Model config, or any part of one.
    """
    if isinstance(cfg, dict):
        if cfg.get('type') == 'Pretrained':
            return None
        kept = {key: None if key in FILES else without_pretrained(value) for key, value in cfg.items()}
        return type(cfg)(kept)
    if isinstance(cfg, (list, tuple)):
        return type(cfg)(part for item in cfg if (part := without_pretrained(item)) is not None or item is None)
    return copy.deepcopy(cfg)


def build_untrained(cfg: Config, device: str | torch.device = 'cpu', seed: int = 0) -> nn.Module:
    """Build the model of a config with random weights.

    Args:
        cfg: Complete config; its ``default_scope`` must be set already.
        device: Where the model goes.
        seed: Seed of the weights, so that twins start alike.

    Returns:
        The model in training mode. Synchronised batch norm becomes plain batch norm, as in a single process.
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
    """Hold back the log of initialisation and optimisers, which has several lines per parameter."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel('WARNING')
    try:
        yield
    finally:
        logger.setLevel(level)


def fold(model: nn.Module) -> nn.Module:
    """Return a copy of a model folded for deployment, in evaluation mode; the model itself stays as it is."""
    return switch_to_deploy(copy.deepcopy(model).eval())
