"""A message hub that reads logged values from the device only when its histories are accessed."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer, MessageHub

MAX_PENDING = 100  # values of one history that are kept unread: a few kilobytes on a GPU


class DeferredMessageHub(MessageHub):
    """The message hub of :class:`reprefine.engine.runner.Runner`.

    mmengine's hub reads every loss from the device in each iteration, so that the CPU waits for the GPU, and copies the
    whole history to append one number. This hub keeps values pending until their history is accessed (by the logger at
    its interval, a checkpoint or other code) and then reads all of them in one transfer. The histories are the same.
    """

    def __init__(self, name: str, **kwargs: Any) -> None:
        self._pending: dict[str, list[tuple[float | torch.Tensor, int]]] = {}
        super().__init__(name, **kwargs)

    @property
    def _log_scalars(self) -> dict[str, HistoryBuffer]:
        self.flush()
        return self._histories

    @_log_scalars.setter
    def _log_scalars(self, histories: dict[str, HistoryBuffer]) -> None:
        self._histories = histories

    def get_scalar(self, key: str) -> HistoryBuffer:
        """Return one history, reading only its own pending values.

        mmengine's ``IterTimerHook`` asks for the times in each iteration, which are not on the device.

        Args:
            key: Name of the history.
        """
        self.flush([key])
        return self._histories[key] if key in self._histories else super().get_scalar(key)

    def update_scalar(self, key: str, value: Any, count: int = 1, resumed: bool = True) -> None:
        """Add a value to a history as mmengine does, without reading it from the device.

        Args:
            key: Name of the history.
            value: Number, or array or tensor of one element.
            count: Number of values that ``value`` sums up.
            resumed: Whether the history is part of a checkpoint.
        """
        if isinstance(value, (np.ndarray, np.number)) and value.size == 1:
            value = value.item()
        is_tensor = type(value) is torch.Tensor and value.numel() == 1
        can_defer = (is_tensor or type(value) in (float, int)) and type(count) is int
        if not can_defer or key not in self._histories:
            super().update_scalar(key, value, count, resumed)
            return
        self._set_resumed_keys(key, resumed)
        pending = self._pending.setdefault(key, [])
        pending.append((value.detach().clone() if is_tensor else value, count))  # it may be changed in place afterwards
        if len(pending) >= MAX_PENDING:
            self.flush()

    def flush(self, keys: Iterable[str] | None = None) -> None:
        """Append pending values to their histories, with one transfer for each device and dtype.

        Args:
            keys: Names of histories; None: all of them.
        """
        pending = {
            key: self._pending.pop(key) for key in list(self._pending if keys is None else keys) if key in self._pending
        }
        numbers = iter(read_scalars(value for values in pending.values() for value, _ in values))
        for key, values in pending.items():
            _extend(self._histories[key], [next(numbers) for _ in values], [count for _, count in values])


def get_deferred_hub(name: str) -> MessageHub:
    """Create the hub that :meth:`mmengine.logging.MessageHub.get_instance` returns for a name from now on.

    Args:
        name: The name; if a hub of this name exists, it is returned.
    """
    # Host libraries ask the base class, which keeps a table of its own instances.
    return MessageHub._instance_dict.setdefault(name, DeferredMessageHub(name))


def read_scalars(values: Iterable[float | torch.Tensor]) -> list[float]:
    """Read tensors as ``Tensor.item`` does, with one transfer for each device and dtype.

    Args:
        values: Numbers, which are returned unchanged, and tensors of one element.
    """
    numbers = list(values)
    indices = [index for index, value in enumerate(numbers) if isinstance(value, torch.Tensor)]

    def kind(index: int) -> tuple[str, str]:
        return str(numbers[index].device), str(numbers[index].dtype)

    for _, group in groupby(sorted(indices, key=kind), key=kind):
        alike = list(group)
        read = torch.stack([numbers[index].reshape(()) for index in alike]).tolist()
        for index, number in zip(alike, read, strict=True):
            numbers[index] = number
    return numbers


def _extend(history: HistoryBuffer, values: Sequence[float], counts: Sequence[int]) -> None:
    """Append values to a history: the arrays are those of one ``update`` per value."""
    if len(values) == 1 or not all(type(value) is float for value in values):  # mixed types promote one by one
        for value, count in zip(values, counts, strict=True):
            history.update(value, count)
        return
    log = np.concatenate([history._log_history, values])
    count = np.concatenate([history._count_history, counts])
    history._log_history, history._count_history = log[-history.max_length :], count[-history.max_length :]
