"""Running any model on an input that it takes, to watch it or to compare two forms of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from ..layers.conv import PDConv
from ..layers.linear import PDLinear

SIZES = ((32, 64), (224, 224), (28, 28))  # of the images that a model is tried on, in pixels


class Call(NamedTuple):
    """A way to run a model.

    Attributes:
        method: Name of what is called.
        args: Its arguments.
    """

    method: str
    args: tuple

    def __call__(self, model: nn.Module) -> object:
        """Run ``model``."""
        return getattr(model, self.method)(*self.args)

    def __str__(self) -> str:
        """Return the shapes of the input."""
        shapes = ['x'.join(map(str, arg.shape)) for arg in self.args if torch.is_tensor(arg)]
        return f'input of shape {", ".join(shapes)}' if shapes else 'the example'


def calls(model: nn.Module, example: Tensor | tuple | None = None) -> Iterator[Call]:
    """Yield ways to run a model that may succeed.

    Args:
        model: The model, and after it its ``extract_feat``, take images with the channels of its first convolution; a
            model without convolutions takes vectors.
        example: The input to take instead, a tuple for several.
    """
    if example is not None:
        yield Call('__call__', example if isinstance(example, tuple) else (example,))
        return
    channels, features = image_channels(model), _features(model)
    shapes = [(2, channels, *size) for size in SIZES] if channels else [(2, features)] if features else []
    like = next(model.parameters(), torch.empty(0))
    for shape in shapes:
        image = torch.randn(shape, generator=torch.Generator('cpu').manual_seed(0), device='cpu').to(like)
        yield from (Call(method, (image,)) for method in ('__call__', 'extract_feat') if hasattr(model, method))


def image_channels(model: nn.Module) -> int | None:
    """Return the input channels of the convolution registered first, None without one."""
    return next((module.in_channels for module in model.modules() if isinstance(module, (nn.Conv2d, PDConv))), None)


def _features(model: nn.Module) -> int | None:
    return next((module.in_features for module in model.modules() if isinstance(module, (nn.Linear, PDLinear))), None)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without calling the model's own ``train``, without gradients, with the RNG state kept."""
    modes = {module: module.training for module in model.modules()}
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        try:
            for module in modes:
                module.training = False
            yield
        finally:
            for module, training in modes.items():
                module.training = training


def outputs_of(model: nn.Module, call: Call) -> list[Tensor]:
    """Return all floating-point tensors of what a model returns, in evaluation mode."""
    with evaluating(model):
        return [leaf for leaf in tree_leaves(call(model)) if torch.is_tensor(leaf) and leaf.is_floating_point()]
