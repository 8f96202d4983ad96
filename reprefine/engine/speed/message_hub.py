"""A MessageHub that waits with reading values from the device until somebody looks at them."""

from collections.abc import Iterable
from itertools import groupby
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer, MessageHub

# Values held at most before they are read on their own account: about a hundred iterations' worth, and less than a
# megabyte of a GPU.
MAX_PENDING = 1024


class DeferredHistory(HistoryBuffer):
    """mmengine's HistoryBuffer whose latest values may still be on their way.

    Copies of it, and what is written to a checkpoint, are plain ``HistoryBuffer`` objects with all values.

    Args:
        history: Holds the values so far.
        hub: The hub that reads the values of all its histories at once.
    """

    # Slots stay out of __dict__, which is what mmengine copies and saves.
    __slots__ = ('_hub', '_waiting')

    def __init__(self, history: HistoryBuffer, hub: 'DeferredMessageHub'):
        self._waiting: list[tuple[float | torch.Tensor, int]] = []
        self._hub = hub
        self.__dict__.update(history.__dict__)

    def defer(self, value: float | torch.Tensor, count: int) -> None:
        """Note a value without reading it.

        Args:
            value: Number or tensor of one element that nobody changes any more.
            count: As in :meth:`update`.
        """
        self._waiting.append((value, count))

    def update(self, log_val: int | float, count: int = 1) -> None:
        """Add a number, after those that wait."""
        self._hub.flush()
        super().update(log_val, count)

    def current(self) -> np.ndarray:
        """Return the last value; a number that waits need not be added for that."""
        if self._waiting and type(self._waiting[-1][0]) is float:
            return np.float64(self._waiting[-1][0])
        return super().current()

    def take_pending(self) -> list[tuple[float | torch.Tensor, int]]:
        """Return what waits, and forget it."""
        waiting, self._waiting = self._waiting, []
        return waiting

    def extend(self, values: list[float], counts: list[int]) -> None:
        """Add numbers that have been read: the same arrays as by one :meth:`update` each.

        Args:
            values: The numbers.
            counts: Their counts.
        """
        if len(values) == 1 or not _promote_alike(values):
            for value, count in zip(values, counts, strict=True):
                super().update(value, count)
            return
        log = np.concatenate([self._log_history, values])
        count = np.concatenate([self._count_history, counts])
        self._log_history, self._count_history = log[-self.max_length :], count[-self.max_length :]

    def _stored(name: str) -> property:  # noqa: N805 - makes the two properties below
        def read(self: 'DeferredHistory') -> np.ndarray:
            if self._waiting:
                self._hub.flush()
            return self.__dict__[name]

        def write(self: 'DeferredHistory', array: np.ndarray) -> None:
            self.__dict__[name] = array

        return property(read, write)

    _log_history = _stored('_log_history')
    _count_history = _stored('_count_history')

    def __reduce_ex__(self, protocol: int) -> Any:
        """Copy and save as a plain HistoryBuffer."""
        self._hub.flush()
        plain = HistoryBuffer.__new__(HistoryBuffer)
        plain.__dict__.update(self.__dict__)
        return plain.__reduce_ex__(protocol)


class DeferredMessageHub(MessageHub):
    """The hub of :class:`reprefine.engine.runner.Runner`.

    mmengine reads every loss from the device in every iteration, which makes the CPU wait for the GPU, and copies the
    whole history of each to add one number. Here values wait until a history is looked at (by the logger at its
    interval, by a checkpoint, by any other code); then all of them are read in one transfer. What is seen is the same.
    """

    _num_pending = 0

    def update_scalar(self, key: str, value: Any, count: int = 1, resumed: bool = True) -> None:
        """Update a history as mmengine does, but without waiting for the device.

        Args:
            key: Name of the history.
            value: Number, or array or tensor of one element.
            count: Number of values that ``value`` sums up.
            resumed: Whether the history is part of a checkpoint.
        """
        history = self._log_scalars.get(key)
        if isinstance(value, (np.ndarray, np.number)) and value.size == 1:
            value = value.item()
        is_tensor = type(value) is torch.Tensor and value.numel() == 1
        if (
            not (is_tensor or type(value) in (float, int))
            or type(count) is not int
            or type(history) is not DeferredHistory
        ):
            super().update_scalar(key, value, count, resumed)
            self._defer(key)
            return
        self._set_resumed_keys(key, resumed)
        # The owner may change the tensor in place afterwards.
        history.defer(value.detach().clone() if is_tensor else value, count)
        self._num_pending += 1
        if self._num_pending >= MAX_PENDING:
            self.flush()

    def load_state_dict(self, state_dict: MessageHub | dict) -> None:
        """Load histories and information as mmengine does.

        Args:
            state_dict: As in mmengine's.
        """
        super().load_state_dict(state_dict)
        for key in self._log_scalars:
            self._defer(key)

    def flush(self) -> None:
        """Add all values that wait to their histories, by one transfer for each kind of tensor among them."""
        self._num_pending = 0
        histories = [history for history in self._log_scalars.values() if type(history) is DeferredHistory]
        taken = [history.take_pending() for history in histories]
        numbers = read_scalars(value for waiting in taken for value, _ in waiting)
        start = 0
        for history, waiting in zip(histories, taken, strict=True):
            if waiting:
                history.extend(numbers[start : start + len(waiting)], [count for _, count in waiting])
            start += len(waiting)

    def _defer(self, key: str) -> None:
        history = self._log_scalars[key]
        if type(history) is HistoryBuffer:
            self._log_scalars[key] = DeferredHistory(history, self)


def get_deferred_hub(name: str) -> MessageHub:
    """Make the hub of a name that :meth:`mmengine.logging.MessageHub.get_instance` returns from now on.

    Args:
        name: The name; if there is a hub of it already, that one is returned.
    """
    # Hosts ask the base class, which keeps a table of its own instances.
    return MessageHub._instance_dict.setdefault(name, DeferredMessageHub(name))


def read_scalars(values: Iterable[float | torch.Tensor]) -> list[float]:
    """Read tensors as ``Tensor.item`` would, with one transfer for each device and type.

    Args:
        values: Numbers, which are returned as they are, and tensors of one element.
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


def _promote_alike(values: list[float]) -> bool:
    """Whether an array of all values has the type that adding them one by one leads to: not so for mixtures."""
    return all(type(value) is float for value in values)
