"""Getting at a model: built from a config on its own, or taken out of its distributed wrapper."""

from mmengine.config import Config
from mmengine.model import is_model_wrapper, revert_sync_batchnorm
from mmengine.registry import MODELS
from torch import nn

from .checkpoints.checkpoint import read_checkpoint
from .checkpoints.weights import check_match, load_weights


def build_model(cfg: Config) -> nn.Module:
    """Build the model of a checked config with the weights its constructor gives it.

    Args:
        cfg: Complete config whose default scope is set; a ``data_preprocessor`` at top level (mmpretrain's place for
            it) goes to the model, as the Runner would do it.
    """
    model = cfg.model.copy()
    if cfg.get('data_preprocessor') is not None:
        model.setdefault('data_preprocessor', cfg.data_preprocessor)
    return MODELS.build(model)


def unwrap(model: nn.Module) -> nn.Module:
    """Return the model itself if it stands in a distributed wrapper."""
    return model.module if is_model_wrapper(model) else model


def load_trained(cfg: Config, checkpoint: str) -> nn.Module:
    """Build the model of a checked config, fill it completely and set it to evaluation mode.

    Raises:
        UserError: If the checkpoint does not fill the model.
    """
    model = revert_sync_batchnorm(build_model(cfg)).eval()
    check_match(load_weights(model, read_checkpoint(checkpoint)), checkpoint, floor=1.0)
    return model
