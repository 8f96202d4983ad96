"""A reusable workspace for intermediate results on the CPU.

Allocating a tensor of several megabytes causes a page fault every 4 kB, which takes longer than computing the mixed
kernels of a large convolution.
"""

import threading

import torch
from torch import Tensor

_buffers = threading.local()


def can_use_workspace(*tensors: Tensor) -> bool:
    """Return whether a result may be stored in the workspace: on the CPU, without autograd, compilation or tracing."""
    on_cpu = all(tensor.device.type == 'cpu' for tensor in tensors)
    has_graph = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    return on_cpu and not has_graph and not torch.compiler.is_compiling() and not torch.jit.is_tracing()


def workspace(rows: int, columns: int, like: Tensor) -> Tensor:
    """Return an uninitialised tensor, valid until the next call in the same thread.

    Args:
        rows: Size of dimension 0.
        columns: Size of dimension 1.
        like: Tensor with the dtype of the result.

    Returns:
        Shape ``[rows, columns]``.
    """
    size = rows * columns
    buffers = _buffers.__dict__.setdefault('tensors', {})
    buffer = buffers.get(like.dtype)
    if buffer is None or buffer.numel() < size:
        with torch.inference_mode(False):  # an inference tensor could not be written outside of inference mode
            buffer = buffers[like.dtype] = torch.empty(size, dtype=like.dtype)
    return buffer[:size].view(rows, columns)
