"""Random draws that torch.compile takes."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def draw(
    function: Callable[..., Tensor], shape: tuple[int, ...], generator: torch.Generator | None, **options: Any
) -> Tensor:
    """Call ``torch.rand`` or ``torch.randn``, naming the generator only if there is one.

    In a compiled graph of dynamic shapes they do not take ``generator=None``.

    Args:
        function: The function.
        shape: Shape of the draw.
        generator: Source of randomness, default torch's own.
        **options: Further arguments, such as ``device`` and ``dtype``.
    """
    return function(shape, **options) if generator is None else function(shape, generator=generator, **options)
