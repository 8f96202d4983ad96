"""Vision transformers of timm: creation, and loading of their weights from a file or the hub."""

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
    """Create a vision transformer without classifier for images of any size.

    Args:
        model_name: Name in timm, with or without the tag of the weights.
        pretrained: Download the weights of that name; otherwise the weights are random.
        **model_args: Further arguments of the model, such as ``img_size`` or ``depth``.

    Raises:
        UserError: If timm is not installed, has no such model, or cannot download its weights, or if the model is
            neither a ``VisionTransformer`` nor an ``Eva``.
    """
    try:
        import timm
        from timm.models import Eva, VisionTransformer
    except ImportError as error:
        raise UserError('timm, which TimmViT needs, is not installed: pip install timm') from error
    try:
        vit = timm.create_model(model_name, pretrained=pretrained, num_classes=0, dynamic_img_size=True, **model_args)
    except OSError as error:
        raise UserError(
            f'the weights of {model_name} cannot be downloaded ({type(error).__name__}); set checkpoint to a local file'
        ) from error
    except (RuntimeError, TypeError) as error:
        near = difflib.get_close_matches(model_name, timm.list_models() + timm.list_pretrained(), n=1)
        hint = f'; did you mean {near[0]}?' if near and near[0] != model_name else ''
        raise UserError(f'timm cannot create the vision transformer {model_name}: {error}{hint}') from error
    if not isinstance(vit, VisionTransformer | Eva):
        raise UserError(f'{model_name} is a {type(vit).__name__}; TimmViT takes a VisionTransformer or an Eva of timm')
    return vit


def load_vit_checkpoint(
    vit: nn.Module,
    filename: str,
    checkpoint_key: str | None = None,
    revise_keys: Sequence[tuple[str, str]] = (),
    allow_smaller_pos_embed: bool = False,
) -> None:
    """Load all weights of ``vit`` from a file in timm's format or in that of the models' authors.

    Position embeddings of another grid are resampled as in timm. A classifier in the file is ignored.

    Args:
        vit: Model of :func:`create_vit`, whose layers another method may have converted.
        filename: A ``.safetensors`` file or a checkpoint of torch, which is read weights-only.
        checkpoint_key: Entry of the file that holds the weights.
        revise_keys: Pairs of regular expression and replacement for the names of the weights.
        allow_smaller_pos_embed: Resample a position embedding to a smaller grid, with a warning, instead of raising an
            error.

    Raises:
        UserError: If the file is missing, corrupted, unsafe to load, or lacks weights of the model, or its position
            embedding is larger than the model's.
    """
    from timm.models import Eva, eva, vision_transformer

    # DeiT-III's authors use other names for the layer scales
    adapt = partial(vision_transformer.checkpoint_filter_fn, adapt_layer_scale=True)
    convert = eva.checkpoint_filter_fn if isinstance(vit, Eva) else adapt
    content = read_checkpoint(filename)
    checkpoint = select_weights(content, filename, checkpoint_key, revise_keys)
    source = checkpoint.get('state_dict', checkpoint)
    side = _larger_pos_embed_side(vit, source)
    if side and not allow_smaller_pos_embed:
        raise UserError(
            f'checkpoint {filename} has a position embedding of {side}x{side} patches, the model one of '
            f'{" x ".join(map(str, vit.patch_embed.grid_size))}: set img_size={side * vit.patch_embed.patch_size[0]}, '
            'the image size of its training; for other sizes the embedding is then resampled once instead of twice'
        )
    load_vit_weights(vit, convert(source, vit), filename, content)
    if side:
        warn_smaller_pos_embed(filename, side, vit)


def load_vit_weights(vit: nn.Module, weights: Mapping[str, Any], source: str, content: Any = None) -> None:
    """Load all weights of ``vit``, except those that another method has added to its layers.

    Args:
        vit: Model of :func:`create_vit`, whose layers another method may have converted.
        weights: Weights by the names of timm.
        source: File or model name that they come from, for messages.
        content: Content of their file, for a message that names another entry with matching weights.

    Raises:
        UserError: If weights of the model are missing.
    """
    match = load_weights(vit, weights, allowed_missing=added_names(vit))
    check_match(match, source, 1.0, None if content is None else vit, content)


def warn_smaller_pos_embed(source: str, side: int, vit: nn.Module) -> None:
    """Warn that a position embedding of ``side`` x ``side`` patches was resampled to the smaller one of ``vit``.

    Args:
        source: File or model name that the weights come from.
        side: Patches along each side of its position embedding.
        vit: The model.
    """
    own = 'x'.join(map(str, vit.patch_embed.grid_size))
    MMLogger.get_current_instance().warning(
        f'the position embedding of {source}, {side}x{side}, is resampled to {own} of img_size, which loses detail'
    )


def _larger_pos_embed_side(vit: nn.Module, weights: Mapping[str, Any]) -> int:
    """Return the side of a file's position embedding in patches if that of ``vit`` is smaller, otherwise 0."""
    if vit.pos_embed is None:
        return 0
    for container in ('model', 'state_dict'):  # as in timm's converters
        weights = weights.get(container, weights)
    own = vit.patch_embed.grid_size[0] * vit.patch_embed.grid_size[1]
    for name, embedding in weights.items():
        if name.endswith(('pos_embed', 'visual.positional_embedding')) and torch.is_tensor(embedding):
            patches = embedding.shape[-2] - max(vit.num_prefix_tokens, 1)  # at most; some have no class token
            if patches > own:
                return isqrt(embedding.shape[-2])
    return 0
