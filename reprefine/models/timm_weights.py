"""Creating vision transformers of timm and filling them from a file or from timm's own hub."""

import difflib
from functools import partial
from typing import Any

from torch import nn

from reprefine.engine.checkpoints.checkpoint import read_checkpoint
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


def load_file(vit: nn.Module, filename: str) -> None:
    """Fill ``vit`` completely from a file in timm's format or in that of the models' authors.

    Position tables of another grid are resampled, as timm does it. Classifiers in the file are ignored.

    Args:
        vit: Model of :func:`create_vit`.
        filename: Weights, ``.safetensors`` or a checkpoint of torch, which is read weights-only.

    Raises:
        UserError: If the file is missing, damaged, unsafe to load, or does not fill the whole model.
    """
    from timm.models import Eva, eva, vision_transformer

    # DeiT-III's authors name the layer scales in their own way.
    adapt = partial(vision_transformer.checkpoint_filter_fn, adapt_layer_scale=True)
    convert = eva.checkpoint_filter_fn if isinstance(vit, Eva) else adapt
    checkpoint = read_checkpoint(filename)
    weights = convert(checkpoint.get('state_dict', checkpoint), vit)
    check_match(load_weights(vit, weights), filename, floor=1.0)
