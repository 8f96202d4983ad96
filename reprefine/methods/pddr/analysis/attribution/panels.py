"""Attribution maps as RGB images."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from matplotlib import colormaps
from torch import Tensor, nn
from torch.nn import functional as F

from reprefine.engine.errors import UserError

from ..data_loading import predict_logits
from ..functional import to_signed_range, to_unit_range
from ..plot import overlay
from .grad_cam import grad_cam, guided_grad_cam
from .input_gradients import input_gradients
from .occlusion import occlusion_maps

METHODS = ('grad-cam', 'gradient', 'deconvnet', 'guided-backprop', 'guided-grad-cam', 'occlusion')
BLENDS = ('average', 'map')
RULES = {'gradient': 'gradient', 'deconvnet': 'deconvnet', 'guided-backprop': 'guided'}


@dataclass(frozen=True)
class AttributionOptions:
    """Content of a figure of attribution maps.

    Attributes:
        methods: Attribution methods of :data:`METHODS`, one column each.
        layer: Name of the layer for Grad-CAM; None: the last stage of the backbone.
        of_true_class: Whether to explain the true class instead of the predicted class.
        side: Side in pixels of the square that images are resized to; None: that of the crop in the config.
        blend: Blending of Grad-CAM map and image, see :func:`~..plot.overlay`.
        patch: Side of the patch of occlusion maps, in pixels.
        stride: Stride of the patches, in pixels.
    """

    methods: Sequence[str] = ('grad-cam',)
    layer: str | None = None
    of_true_class: bool = False
    side: int | None = None
    blend: str = 'average'
    patch: int = 35
    stride: int = 8


def attribution_images(
    method: str,
    model: nn.Module,
    images: Tensor,
    rgb_images: Sequence[np.ndarray],
    classes: Tensor,
    options: AttributionOptions,
) -> list[np.ndarray]:
    """Return the attribution maps of one method as RGB images, 8 bit.

    Grad-CAM maps are blended with the image. Gradients are min-max normalised over all channels of an image. Occlusion
    maps are red where occlusion lowers the logit and blue where it raises it.

    Args:
        method: One of :data:`METHODS`.
        model: Classifier of mmpretrain in evaluation mode.
        images: Preprocessed images ``[N, 3, H, W]``.
        rgb_images: The images before preprocessing, 8 bit, each ``[H, W, 3]``.
        classes: Class of each image ``[N]``.
        options: Further options.

    Raises:
        UserError: If the model is not a classifier, or lacks the layer of Grad-CAM.
    """
    logits_of = partial(predict_logits, model)
    if method == 'grad-cam':
        maps, _ = grad_cam(logits_of, find_cam_layer(model, options.layer), images, classes)
        return [overlay(image, heat, options.blend) for image, heat in zip(rgb_images, maps.numpy(), strict=True)]
    if method == 'occlusion':
        maps, _ = occlusion_maps(logits_of, images, classes, options.patch, options.stride)
        return occlusion_images(maps, images.shape[2:])
    if method == 'guided-grad-cam':
        gradients, _ = guided_grad_cam(logits_of, find_cam_layer(model, options.layer), images, classes)
    else:
        gradients, _ = input_gradients(logits_of, images, classes, RULES[method])
    return gradient_images(gradients)


def find_cam_layer(model: nn.Module, name: str | None) -> nn.Module:
    """Return a layer by name; None: the last stage of a ResNet backbone.

    Raises:
        UserError: If the model has no such layer.
    """
    try:
        name = name or f'backbone.{getattr(model.backbone, "res_layers", ["layer4"])[-1]}'
        return model.get_submodule(name)
    except AttributeError as error:
        raise UserError(f'--layer {name}: the model has no module of that name, give one of named_modules()') from error


def gradient_images(gradients: Tensor) -> list[np.ndarray]:
    """Return gradients ``[N, 3, H, W]`` as images ``[H, W, 3]``, 8 bit, each min-max normalised."""
    return list((to_unit_range(gradients) * 255).round().byte().permute(0, 2, 3, 1).numpy())


def occlusion_images(maps: Tensor, size: tuple[int, int]) -> list[np.ndarray]:
    """Return occlusion maps ``[N, h, w]`` as images ``[H, W, 3]``, 8 bit: red below zero, white at zero, blue above."""
    enlarged = F.interpolate(to_signed_range(maps)[:, None], tuple(size), mode='nearest')[:, 0]
    colours = colormaps['bwr_r']((enlarged.numpy() + 1) / 2)[..., :3]
    return list((colours * 255).round().astype(np.uint8))
