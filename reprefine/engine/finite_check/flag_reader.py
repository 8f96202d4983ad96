"""Reading a boolean of the device without waiting for the device."""

from collections.abc import Callable
from typing import Generic, TypeVar

import torch
from torch import Tensor

T = TypeVar('T')
# Starts to copy a flag to the host; the function that it returns waits for the copy and returns the flag.
StartCopy = Callable[[Tensor], Callable[[], bool]]


class FlagReader(Generic[T]):
    """Returns the step whose flag is set: at once, or when the next flag is added.

    In the second case the host is at most one step ahead of the flags it has read.

    Args:
        start_copy: How a flag is copied to the host. None reads it at once, which costs nothing on the CPU.
    """

    def __init__(self, start_copy: StartCopy | None = None) -> None:
        self._start_copy = start_copy
        self._pending: tuple[Callable[[], bool], T] | None = None

    @property
    def is_deferred(self) -> bool:
        """Whether a flag is read one step later."""
        return self._start_copy is not None

    def add(self, flag: Tensor, step: T) -> T | None:
        """Take the flag of ``step`` and return the step that is known to have failed, if any.

        Args:
            flag: Boolean tensor of one element.
            step: Any object that identifies the step.
        """
        if self._start_copy is None:
            return step if bool(flag) else None
        failed = self.flush()
        self._pending = self._start_copy(flag), step
        return failed

    def flush(self) -> T | None:
        """Wait for the last flag and return its step if the flag is set."""
        pending, self._pending = self._pending, None
        return pending[1] if pending is not None and pending[0]() else None


def start_pinned_copy(flag: Tensor) -> Callable[[], bool]:
    """Start a non-blocking copy of a flag from a GPU to pinned memory.

    Args:
        flag: Boolean tensor of one element.

    Returns:
        A function that waits for the copy, not for later work of the GPU, and returns the flag.
    """
    host = torch.empty_like(flag, device='cpu', pin_memory=True)
    host.copy_(flag, non_blocking=True)
    copied = torch.cuda.Event()
    copied.record()

    def read() -> bool:
        copied.synchronize()
        return bool(host)

    return read


def flag_reader(device: torch.device) -> FlagReader:
    """Return the reader for flags on ``device``."""
    return FlagReader(start_pinned_copy if device.type == 'cuda' else None)
