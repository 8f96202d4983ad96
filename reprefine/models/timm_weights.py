"""Creating vision transformers of timm and loading their weights from a file or from timm's own hub."""

import difflib
from collections.abc import Mapping, Sequence
from functools import partial
from math import isqrt
from typing import Any

import torch
from mmengine.logging import MMLogger
from torch import nn

from reprefine.engine.checkpoints.checkpoint import read_checkpoint
from reprefine.engine.checkpoints.entries import select_weights
from reprefine.engine.checkpoints.method_keys import added_names
from reprefine.engine.checkpoints.weights import check_match, load_weights
from reprefine.engine.errors import UserError


def create_vit(model_name: str, pretrained: bool = False, **model_args: Any) -> nn.Module:
    """Create a vision transformer without its classifier that takes images of any size.

    Args:
        model_name: Name of timm, with or without the tag of its weights.
        pretrained: Download the weights of that name; otherwise they are random.
        **model_args: Further arguments of the model, such as ``img_size`` or ``depth``.

    Raises:
        UserError: If timm is not installed, knows no such model, or cannot fetch its weights; or if the model is
            neither a ``VisionTransformer`` nor an ``Eva``.
    """
    try:
        import timm
        from timm.models import Eva, VisionTransformer
    except ImportError as error:
        raise UserError('TimmViT needs timm: pip install timm') from error
    try:
        vit = timm.create_model(model_name, pretrained=pretrained, num_classes=0, dynamic_img_size=True, **model_args)
    except OSError as error:
        raise UserError(
            f'the weights of {model_name} cannot be fetched ({type(error).__name__}); give a local file as checkpoint'
        ) from error
    except (RuntimeError, TypeError) as error:
        near = difflib.get_close_matches(model_name, timm.list_models() + timm.list_pretrained(), n=1)
        hint = f'; did you mean {near[0]}?' if near and near[0] != model_name else ''
        raise UserError(f'timm cannot create the vision transformer {model_name}: {error}{hint}') from error
    if not isinstance(vit, VisionTransformer | Eva):
        raise UserError(f'{model_name} is a {type(vit).__name__}; TimmViT takes a VisionTransformer or an Eva of timm')
    return vit


def load_file(
    vit: nn.Module,
    filename: str,
    checkpoint_key: str | None = None,
    revise_keys: Sequence[tuple[str, str]] = (),
    may_shrink: bool = False,
) -> None:
    """Load all weights of ``vit`` from a file in timm's format or in that of the models' authors.

    Position tables of another grid are resampled, as timm does it. Classifiers in the file are ignored.

    Args:
        vit: Model of :func:`create_vit`, whose layers another method may have converted.
        filename: Weights, ``.safetensors`` or a checkpoint of torch, which is read weights-only.
        checkpoint_key: Entry of the file that holds the weights.
        revise_keys: Pairs of pattern and replacement for their names.
        may_shrink: Whether a position table may be resampled to a smaller grid, with a warning.

    Raises:
        UserError: If the file is missing, damaged, unsafe to load, or does not load the whole model, or its position
            table would shrink.
    """
    from timm.models import Eva, eva, vision_transformer

    # DeiT-III's authors name the layer scales in their own way.
    adapt = partial(vision_transformer.checkpoint_filter_fn, adapt_layer_scale=True)
    convert = eva.checkpoint_filter_fn if isinstance(vit, Eva) else adapt
    content = read_checkpoint(filename)
    checkpoint = select_weights(content, filename, checkpoint_key, revise_keys)
    source = checkpoint.get('state_dict', checkpoint)
    side = _shrunk_from(vit, source)
    if side and not may_shrink:
        raise UserError(
            f'checkpoint {filename} has a position table of {side}x{side} patches, the model one of '
            f'{" x ".join(map(str, vit.patch_embed.grid_size))}: set img_size={side * vit.patch_embed.patch_size[0]}, '
            'the size of its training; maps of other sizes are then resampled once instead of twice'
        )
    fill_vit(vit, convert(source, vit), filename, content)
    if side:
        warn_of_shrinking(filename, side, vit)


def fill_vit(vit: nn.Module, weights: Mapping[str, Any], source: str, content: Any = None) -> None:
    """Load all weights of ``vit``; what another method has added to its layers is not among them.

    Args:
        vit: Model of :func:`create_vit`, whose layers another method may have converted.
        weights: Weights by the names of timm.
        source: Where they come from, for messages.
        content: Content of their file, to name the entry that would fit.

    Raises:
        UserError: If they do not load the whole model.
    """
    match = load_weights(vit, weights, allowed_missing=added_names(vit))
    check_match(match, source, 1.0, None if content is None else vit, content)


def warn_of_shrinking(source: str, side: int, vit: nn.Module) -> None:
    """Warn that a position table of ``side`` x ``side`` patches was resampled to the smaller one of ``vit``."""
    own = 'x'.join(map(str, vit.patch_embed.grid_size))
    MMLogger.get_current_instance().warning(
        f'the position table of {source}, {side}x{side}, is resampled to {own} of img_size, which loses detail'
    )


def _shrunk_from(vit: nn.Module, weights: Mapping[str, Any]) -> int:
    """Return the side of a file's position table if that of ``vit`` has fewer patches, otherwise 0."""
    if vit.pos_embed is None:
        return 0
    for container in ('model', 'state_dict'):  # where timm's converters look, too
        weights = weights.get(container, weights)
    own = vit.patch_embed.grid_size[0] * vit.patch_embed.grid_size[1]
    for name, table in weights.items():
        if name.endswith(('pos_embed', 'visual.positional_embedding')) and torch.is_tensor(table):
            patches = table.shape[-2] - max(vit.num_prefix_tokens, 1)  # at most; some tables have no class token
            if patches > own:
                return isqrt(table.shape[-2])
    return 0
