"""Grad-CAM and guided Grad-CAM (Selvaraju et al. 2017)."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reprefine.engine.errors import UserError

from ..functional import grad_cam_maps, guided_grad_cam_maps, to_unit_range
from .input_gradients import choose_classes, input_gradients, logits_of_classes


def grad_cam(
    classify: Callable[[Tensor], Tensor], layer: nn.Module, images: Tensor, classes: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return where a network in evaluation mode finds a class, from the gradient of its logit.

    Works on the training and the deployed form. No gradient of a parameter is touched.

    Args:
        classify: From images (N, 3, H, W) to logits (N, classes).
        layer: Module that ``classify`` runs once, with feature maps (N, K, h, w) as its output.
        images: Preprocessed images (N, 3, H, W).
        classes: Class of each image (N,), default that of the largest logit.

    Returns:
        Maps (N, H, W) in the range from 0 to 1, all zero where nothing speaks for the class, and the classes (N,).

    Raises:
        UserError: If the layer does not run exactly once, gives no feature maps, or the logits do not depend on it.
    """
    outputs = []

    def keep(_: nn.Module, __: tuple, output: Tensor) -> Tensor:
        if not torch.is_tensor(output) or output.ndim != 4:
            found = f'shape {list(output.shape)}' if torch.is_tensor(output) else type(output).__name__
            raise UserError(f'the layer {name} gives {found}: Grad-CAM needs one that gives feature maps [N, K, h, w]')
        outputs.append(output)
        return output.clone()  # which the network may change in place

    name = type(layer).__name__
    handle = layer.register_forward_hook(keep)
    try:
        with torch.enable_grad():
            logits = classify(images.detach().requires_grad_())
    finally:
        handle.remove()
    if len(outputs) != 1:
        raise UserError(f'the layer {name} runs {len(outputs)} times for one image: Grad-CAM needs one that runs once')
    classes = choose_classes(logits, classes)
    (gradients,) = torch.autograd.grad(logits_of_classes(logits, classes).sum(), outputs, allow_unused=True)
    if gradients is None:
        raise UserError(f'the logits do not depend on the layer {name}: Grad-CAM needs one before the classifier')
    maps = grad_cam_maps(outputs[0].detach(), gradients)
    enlarged = F.interpolate(maps[:, None], images.shape[2:], mode='bilinear', align_corners=False)
    return to_unit_range(enlarged[:, 0]), classes


def guided_grad_cam(
    classify: Callable[[Tensor], Tensor], layer: nn.Module, images: Tensor, classes: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return guided Grad-CAM: the gradients of guided back-propagation where Grad-CAM finds the class.

    Args:
        classify: As in :func:`grad_cam`.
        layer: As in :func:`grad_cam`.
        images: Preprocessed images (N, 3, H, W).
        classes: As in :func:`grad_cam`.

    Returns:
        Gradients (N, 3, H, W), and the classes (N,).

    Raises:
        UserError: As :func:`grad_cam` and :func:`~.backpropagation.input_gradients` do.
    """
    maps, classes = grad_cam(classify, layer, images, classes)
    gradients, _ = input_gradients(classify, images, classes, 'guided')
    return guided_grad_cam_maps(gradients, maps), classes
