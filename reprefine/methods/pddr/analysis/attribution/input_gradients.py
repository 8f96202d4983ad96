"""Gradients of a logit by the image: saliency, deconvnet and guided backpropagation."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from reprefine.engine.errors import UserError

from ..functional import deconvnet_relu_gradient, guided_relu_gradient

ReLUGradient = Callable[[Tensor, Tensor], Tensor]
RULES: dict[str, ReLUGradient | None] = {
    'gradient': None,
    'deconvnet': deconvnet_relu_gradient,
    'guided': guided_relu_gradient,
}
RELUS = {F.relu, torch.relu, Tensor.relu}
INPLACE_RELUS = {F.relu_, torch.relu_, Tensor.relu_}


def choose_classes(logits: Tensor, classes: Tensor | None) -> Tensor:
    """Return the classes ``[N]``; None: those of the largest logits ``[N, classes]``."""
    return logits.argmax(1) if classes is None else classes.to(logits.device)


def logits_of_classes(logits: Tensor, classes: Tensor) -> Tensor:
    """Return the logit of the class of each sample, ``[N]``, from logits ``[N, classes]``."""
    return logits.gather(1, classes[:, None])[:, 0]


def input_gradients(
    classify: Callable[[Tensor], Tensor], images: Tensor, classes: Tensor | None = None, rule: str = 'gradient'
) -> tuple[Tensor, Tensor]:
    """Return the gradient of the logit of a class by the image, for a network in evaluation mode.

    The gradients of parameters are not changed.

    Args:
        classify: Maps images ``[N, 3, H, W]`` to logits ``[N, classes]``.
        images: Preprocessed images ``[N, 3, H, W]``.
        classes: Class of each image ``[N]``; None: that of the largest logit.
        rule: Backward pass of every ReLU, module or function: ``'gradient'`` (unchanged; saliency, Simonyan et al.
            2014), ``'deconvnet'`` (Zeiler and Fergus 2014) or ``'guided'`` (guided backpropagation, Springenberg et
            al. 2015).

    Returns:
        Gradients ``[N, 3, H, W]``, and the classes ``[N]``.

    Raises:
        UserError: If the rule is unknown, the network has no ReLU although the rule changes ReLUs, or the logits do
            not depend on the images.
    """
    if rule not in RULES:
        raise UserError(f'rule={rule!r}: use one of {", ".join(RULES)}')
    relu_gradient = RULES[rule]
    inputs = images.detach().requires_grad_()
    with torch.enable_grad():
        if relu_gradient is None:
            logits = classify(inputs)
        else:
            with ReLUGradientMode(relu_gradient) as relus:
                logits = classify(inputs)
            if not relus.count:
                raise UserError(f'the network runs no ReLU, whose gradient {rule!r} changes: use rule="gradient"')
        classes = choose_classes(logits, classes)
        (gradients,) = torch.autograd.grad(logits_of_classes(logits, classes).sum(), inputs, allow_unused=True)
    if gradients is None:
        raise UserError('the logits do not depend on the images: use a network without detach() or no_grad()')
    return gradients, classes


class ReLUGradientMode(TorchFunctionMode):
    """Context in which every ReLU has another backward pass.

    Args:
        gradient: Maps the input of the ReLU and the gradient of its output to the gradient of its input.

    Attributes:
        count: Number of ReLUs that ran.
    """

    def __init__(self, gradient: ReLUGradient):
        super().__init__()
        self.gradient, self.count = gradient, 0

    def __torch_function__(
        self, func: Callable, types: Sequence[type], args: tuple = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run a torch function, with ReLUs replaced."""
        kwargs = dict(kwargs or {})
        is_inplace = func in INPLACE_RELUS or (func is F.relu and _inplace_argument(*args, **kwargs))
        if not is_inplace and func not in RELUS:
            return func(*args, **kwargs)
        self.count += 1
        x = args[0] if args else kwargs['input']
        y = _ReLU.apply(x, self.gradient)
        return x.copy_(y) if is_inplace else y


def _inplace_argument(_: Tensor | None = None, inplace: bool = False, **__: Any) -> bool:
    return inplace


class _ReLU(Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, gradient: ReLUGradient) -> Tensor:
        y = x.clamp_min(0)
        ctx.gradient = gradient
        ctx.save_for_backward(y)  # has the sign pattern of x, which may be changed in place
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, None]:
        return ctx.gradient(ctx.saved_tensors[0], grad), None
