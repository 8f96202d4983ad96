"""Classes and models from configs, and models without their distributed wrapper."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.config import Config
from mmengine.model import is_model_wrapper, revert_sync_batchnorm
from mmengine.registry import MODELS, Registry
from torch import nn

from reprefine.engine.checkpoints.checkpoint import read_checkpoint
from reprefine.engine.checkpoints.entries import select_weights
from reprefine.engine.checkpoints.weights import check_match, load_weights


def class_of(registry: Registry, cfg: Mapping[str, Any]) -> Any:
    """Return the class of a config's ``type``, as ``registry.build`` would find it; None if it has no type."""
    kind = cfg.get('type')
    if not isinstance(kind, str):
        return kind
    with registry.switch_scope_and_registry(cfg.get('_scope_')) as active:
        return active.get(kind)


def base_config(kind: Any, cfg: dict[str, Any]) -> dict[str, Any]:
    """Return the config of the base model from that of a refined one, which has a ``base_type`` and a method's options.

    Args:
        kind: Class of ``cfg.type``; its ``config_options`` name the keys of the options.
        cfg: The config; the result is a dict of the same class.
    """
    own = {'base_type', *getattr(kind, 'config_options', {})}
    return type(cfg)({key: value for key, value in cfg.items() if key not in own}, type=cfg['base_type'])


def build_model(cfg: Config) -> nn.Module:
    """Build the model of a checked config, initialised by its constructor only.

    Args:
        cfg: Complete config whose default scope is set; a top-level ``data_preprocessor``, as in mmpretrain's configs,
            is passed to the model, as the Runner does.
    """
    model = cfg.model.copy()
    if cfg.get('data_preprocessor') is not None:
        model.setdefault('data_preprocessor', cfg.data_preprocessor)
    return MODELS.build(model)


def unwrap(model: nn.Module) -> nn.Module:
    """Return the model without its distributed wrapper."""
    return model.module if is_model_wrapper(model) else model


def load_trained(
    cfg: Config,
    checkpoint: str,
    checkpoint_key: str | None = None,
    revise_keys: Sequence[tuple[str, str]] = (),
) -> nn.Module:
    """Build the model of a checked config, load its weights completely and set it to evaluation mode.

    Args:
        cfg: As in :func:`build_model`.
        checkpoint: Local path or URL.
        checkpoint_key: Entry of the file that holds the weights.
        revise_keys: Pairs of pattern and replacement for their keys.

    Raises:
        UserError: If the checkpoint cannot be read or does not load the whole model.
    """
    model = revert_sync_batchnorm(build_model(cfg)).eval()
    content = read_checkpoint(checkpoint)
    match = load_weights(model, select_weights(content, checkpoint, checkpoint_key, revise_keys))
    check_match(match, checkpoint, 1.0, model, content)
    return model
