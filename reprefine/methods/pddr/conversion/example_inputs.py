"""Example inputs for any model, and its outputs on them in evaluation mode."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from ..layers.conv import PDConv
from ..layers.linear import PDLinear

SIZES = ((32, 64), (224, 224), (28, 28))  # of random images, in pixels


class ForwardCall(NamedTuple):
    """A call of a method of a model.

    Attributes:
        method: Name of the method.
        args: Its arguments.
    """

    method: str
    args: tuple

    def __call__(self, model: nn.Module) -> object:
        """Call the method of ``model``."""
        return getattr(model, self.method)(*self.args)

    def __str__(self) -> str:
        """Return the shapes of the input."""
        shapes = ['x'.join(map(str, arg.shape)) for arg in self.args if torch.is_tensor(arg)]
        return f'input of shape {", ".join(shapes)}' if shapes else 'the example'


def candidate_calls(model: nn.Module, example: Tensor | tuple | None = None) -> Iterator[ForwardCall]:
    """Yield calls that may suit a model: its forward and its ``extract_feat`` on random inputs of several sizes.

    Args:
        model: Any module. The inputs are images with the channels of its first convolution, or vectors if it has no
            convolution.
        example: Input to use instead, a tuple for several inputs.
    """
    if example is not None:
        yield ForwardCall('__call__', example if isinstance(example, tuple) else (example,))
        return
    channels, features = image_channels(model), _in_features(model)
    shapes = [(2, channels, *size) for size in SIZES] if channels else [(2, features)] if features else []
    like = next(model.parameters(), torch.empty(0))
    for shape in shapes:
        image = torch.randn(shape, generator=torch.Generator('cpu').manual_seed(0), device='cpu').to(like)
        yield from (ForwardCall(method, (image,)) for method in ('__call__', 'extract_feat') if hasattr(model, method))


def image_channels(model: nn.Module) -> int | None:
    """Return the input channels of the convolution registered first; None if there is none."""
    return next((module.in_channels for module in model.modules() if isinstance(module, (nn.Conv2d, PDConv))), None)


def _in_features(model: nn.Module) -> int | None:
    return next((module.in_features for module in model.modules() if isinstance(module, (nn.Linear, PDLinear))), None)


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Set evaluation mode without calling ``model.train``, disable gradients and restore the RNG state at the end."""
    modes = {module: module.training for module in model.modules()}
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        try:
            for module in modes:
                module.training = False
            yield
        finally:
            for module, training in modes.items():
                module.training = training


def float_outputs(model: nn.Module, call: ForwardCall) -> list[Tensor]:
    """Return all floating-point tensors of the output of a model in evaluation mode."""
    with eval_mode(model):
        return [leaf for leaf in tree_leaves(call(model)) if torch.is_tensor(leaf) and leaf.is_floating_point()]
