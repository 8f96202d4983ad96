"""The base model as it was, for a moment: with its own layers, which share their weights with the denoising ones."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from .converted import denoise_layers


@contextmanager
def plain_layers(model: nn.Module) -> Iterator[None]:
    """Have plain layers in the place of the denoising ones while the context is open.

    Whatever initialises or loads the weights of the base model meanwhile does so for the denoising layers too, and sees
    no predictor.

    Args:
        model: Converted model.
    """
    places = []
    for name, layer in denoise_layers(model, with_twins=True).items():
        parent, _, attribute = name.rpartition('.')
        places.append((model.get_submodule(parent), attribute, layer, layer.as_base_layer()))
    try:
        for parent, attribute, _, host in places:
            setattr(parent, attribute, host)
        yield
    finally:
        for parent, attribute, layer, host in places:
            layer._parameters = host._parameters  # some may have been replaced
            setattr(parent, attribute, layer)
