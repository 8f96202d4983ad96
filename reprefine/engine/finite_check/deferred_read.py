"""Reading a flag that the device computes without waiting for the device."""

from collections.abc import Callable
from typing import Generic, TypeVar

import torch
from torch import Tensor

Step = TypeVar('Step')
# Starts to copy a flag to the host; the function that it returns waits for the copy and tells the flag.
StartCopy = Callable[[Tensor], Callable[[], bool]]


class FlagReader(Generic[Step]):
    """Tells the step whose flag was raised: at once, or when the next flag is added.

    In the second case the host is never more than one step ahead of what it knows.

    Args:
        start_copy: How a flag gets to the host. None reads it at once, which costs nothing on the CPU.
    """

    def __init__(self, start_copy: StartCopy | None = None) -> None:
        self._start_copy = start_copy
        self._waiting: tuple[Callable[[], bool], Step] | None = None

    @property
    def is_late(self) -> bool:
        """Whether a flag is looked at one step later."""
        return self._start_copy is not None

    def add(self, flag: Tensor, step: Step) -> Step | None:
        """Take the flag of ``step`` and return the step that is known to have failed, if any.

        Args:
            flag: Boolean tensor of one element.
            step: Whatever tells the step.
        """
        if self._start_copy is None:
            return step if bool(flag) else None
        failed = self.flush()
        self._waiting = self._start_copy(flag), step
        return failed

    def flush(self) -> Step | None:
        """Wait for the last flag and return its step if the flag is raised."""
        waiting, self._waiting = self._waiting, None
        return waiting[1] if waiting is not None and waiting[0]() else None


def pinned_copy(flag: Tensor) -> Callable[[], bool]:
    """Start to copy a flag from a GPU to page-locked memory.

    Args:
        flag: Boolean tensor of one element.

    Returns:
        A function that waits for the copy, not for what the GPU was given afterwards, and returns the flag.
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
    return FlagReader(pinned_copy if device.type == 'cuda' else None)
