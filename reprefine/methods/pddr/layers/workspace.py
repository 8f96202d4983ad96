"""Memory that one thread writes again and again.

A fresh tensor of some megabytes costs a page fault every 4 kB before anything is written: more time than mixing the
kernels of a large convolution takes.
"""

import threading

import torch
from torch import Tensor

_memory = threading.local()


def can_reuse(*tensors: Tensor) -> bool:
    """Whether a result may lie in memory that the next call overwrites: on the CPU, with nothing to remember it."""
    on_cpu = all(tensor.device.type == 'cpu' for tensor in tensors)
    remembered = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    return on_cpu and not remembered and not torch.compiler.is_compiling() and not torch.jit.is_tracing()


def scratch(rows: int, columns: int, like: Tensor) -> Tensor:
    """Return a matrix ``[rows, columns]`` of the type of ``like``, valid until the same thread asks again."""
    size = rows * columns
    held = _memory.__dict__.setdefault('tensors', {})
    memory = held.get(like.dtype)
    if memory is None or memory.numel() < size:
        with torch.inference_mode(False):  # or it could not be written outside of inference mode
            memory = held[like.dtype] = torch.empty(size, dtype=like.dtype)
    return memory[:size].view(rows, columns)
