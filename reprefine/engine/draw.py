"""Random tensors with an optional generator under torch.compile."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def draw(
    function: Callable[..., Tensor], shape: tuple[int, ...], generator: torch.Generator | None, **options: Any
) -> Tensor:
    """Call ``torch.rand`` or ``torch.randn`` with a generator, if there is one.

    In a compiled graph with dynamic shapes these functions do not accept ``generator=None``.

    Args:
        function: The function.
        shape: Shape of the tensor.
        generator: Random number generator; None: torch's default.
        **options: Further arguments, such as ``device`` and ``dtype``.
    """
    return function(shape, **options) if generator is None else function(shape, generator=generator, **options)
