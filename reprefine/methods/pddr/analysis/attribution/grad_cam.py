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
    """Return Grad-CAM maps of a network in evaluation mode.

    The gradients of parameters are not changed.

    Args:
        classify: Maps images ``[N, 3, H, W]`` to logits ``[N, classes]``.
        layer: Module that ``classify`` runs once, with feature maps ``[N, K, h, w]`` as output.
        images: Preprocessed images ``[N, 3, H, W]``.
        classes: Class of each image ``[N]``; None: that of the largest logit.

    Returns:
        Maps ``[N, H, W]``, normalised to [0, 1], and the classes ``[N]``. A map without positive values is zero.

    Raises:
        UserError: If the layer does not run exactly once, has no feature maps as output, or the logits do not depend
            on it.
    """
    outputs: list[Tensor] = []

    def save_output(_: nn.Module, __: tuple, output: Tensor) -> Tensor:
        if not torch.is_tensor(output) or output.ndim != 4:
            found = f'shape {list(output.shape)}' if torch.is_tensor(output) else type(output).__name__
            raise UserError(
                f'the layer {name} returns {found}: Grad-CAM needs one that returns feature maps [N, K, h, w]'
            )
        outputs.append(output)
        return output.clone()  # the network may change it in place

    name = type(layer).__name__
    handle = layer.register_forward_hook(save_output)
    try:
        with torch.enable_grad():
            logits = classify(images.detach().requires_grad_())
    finally:
        handle.remove()
    if len(outputs) != 1:
        raise UserError(
            f'the layer {name} runs {len(outputs)} times in a forward pass: Grad-CAM needs one that runs once'
        )
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
    """Return guided Grad-CAM, the product of guided-backpropagation gradients and Grad-CAM maps.

    Args:
        classify: As in :func:`grad_cam`.
        layer: As in :func:`grad_cam`.
        images: Preprocessed images ``[N, 3, H, W]``.
        classes: As in :func:`grad_cam`.

    Returns:
        Gradients ``[N, 3, H, W]``, and the classes ``[N]``.

    Raises:
        UserError: As :func:`grad_cam` and :func:`~.input_gradients.input_gradients` do.
    """
    maps, classes = grad_cam(classify, layer, images, classes)
    gradients, _ = input_gradients(classify, images, classes, 'guided')
    return guided_grad_cam_maps(gradients, maps), classes
