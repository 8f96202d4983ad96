"""How each kind of attribution becomes an image."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from matplotlib import colormaps
from torch import Tensor, nn
from torch.nn import functional as F

from reprefine.engine.errors import UserError

from ..data_loading import classify
from ..functional import to_signed_range, to_unit_range
from ..plot import overlay
from .grad_cam import grad_cam, guided_grad_cam
from .input_gradients import input_gradients
from .occlusion import occlusion_maps

METHODS = ('grad-cam', 'gradient', 'deconvnet', 'guided-backprop', 'guided-grad-cam', 'occlusion')
BLENDS = ('average', 'map')
RULES = {'gradient': 'gradient', 'deconvnet': 'deconvnet', 'guided-backprop': 'guided'}


@dataclass(frozen=True)
class MapOptions:
    """What a figure shows of each image.

    Attributes:
        methods: Of :data:`METHODS`, a column each.
        layer: Name of the layer of Grad-CAM; None for the last stage of the backbone.
        of_true_class: Show what speaks for the true class instead of the one that the network says.
        side: Side of the square that the images are resized to, in pixels; None for that of the config's crop.
        blend: How a Grad-CAM map is laid over the image, see :func:`~.plot.overlay`.
        patch: Side of the patch of the occlusion map, in pixels.
        stride: Distance of its patches, in pixels.
    """

    methods: Sequence[str] = ('grad-cam',)
    layer: str | None = None
    of_true_class: bool = False
    side: int | None = None
    blend: str = 'average'
    patch: int = 35
    stride: int = 8


def panels(
    method: str,
    model: nn.Module,
    images: Tensor,
    pictures: Sequence[np.ndarray],
    classes: Tensor,
    options: MapOptions,
) -> list[np.ndarray]:
    """Return what one method says of each image, as RGB images of 8 bit.

    Grad-CAM lies over the image. Gradients are stretched, for each image, from the least to the largest value of all
    channels. An occlusion map is red where covering the image lowers the logit, blue where it raises it.

    Args:
        method: One of :data:`METHODS`.
        model: Classifier of mmpretrain in evaluation mode.
        images: Preprocessed images (N, 3, H, W).
        pictures: The images as RGB of 8 bit, each (H, W, 3).
        classes: Class of each image (N,).
        options: Further options.

    Raises:
        UserError: If the model has no such layer, or is no classifier.
    """
    logits_of = partial(classify, model)
    if method == 'grad-cam':
        maps, _ = grad_cam(logits_of, layer_of(model, options.layer), images, classes)
        return [overlay(picture, heat, options.blend) for picture, heat in zip(pictures, maps.numpy(), strict=True)]
    if method == 'occlusion':
        maps, _ = occlusion_maps(logits_of, images, classes, options.patch, options.stride)
        return occlusion_panels(maps, images.shape[2:])
    if method == 'guided-grad-cam':
        gradients, _ = guided_grad_cam(logits_of, layer_of(model, options.layer), images, classes)
    else:
        gradients, _ = input_gradients(logits_of, images, classes, RULES[method])
    return gradient_panels(gradients)


def layer_of(model: nn.Module, name: str | None) -> nn.Module:
    """Return the layer of a name, by default the last stage of a ResNet.

    Raises:
        UserError: If there is none.
    """
    try:
        name = name or f'backbone.{getattr(model.backbone, "res_layers", ["layer4"])[-1]}'
        return model.get_submodule(name)
    except AttributeError as error:
        raise UserError(f'--layer {name}: the model has none of that name') from error


def gradient_panels(gradients: Tensor) -> list[np.ndarray]:
    """Return gradients (N, 3, H, W) as images of 8 bit, each stretched over its range."""
    return list((to_unit_range(gradients) * 255).round().byte().permute(0, 2, 3, 1).numpy())


def occlusion_panels(maps: Tensor, size: tuple[int, int]) -> list[np.ndarray]:
    """Return occlusion maps (N, h, w) as images (H, W, 3) of 8 bit: red below zero, white at zero, blue above."""
    enlarged = F.interpolate(to_signed_range(maps)[:, None], tuple(size), mode='nearest')[:, 0]
    colours = colormaps['bwr_r']((enlarged.numpy() + 1) / 2)[..., :3]
    return list((colours * 255).round().astype(np.uint8))
