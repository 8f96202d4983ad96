"""A frozen teacher outside the module tree of the model that uses it, shared by deep copies of the model."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class SharedTeacher(nn.Module):
    """Base class of a frozen network that ``copy.deepcopy`` of a model does not copy, as in EMA.

    Attributes:
        is_shared: Whether a model with this teacher has been deep-copied.
    """

    is_shared = False

    def __deepcopy__(self, memo: dict) -> 'SharedTeacher':
        """Return the network itself, which training does not change."""
        self.is_shared = True
        return self

    def clone(self) -> 'SharedTeacher':
        """Return a deep copy that no other model shares."""
        clone = type(self).__new__(type(self))
        clone.__dict__.update(copy.deepcopy(self.__dict__, {id(self): clone}), is_shared=False)
        return clone


class TeacherMixin(nn.Module):
    """Mixin of a model with a teacher that is neither a submodule nor in the state dict.

    The teacher follows the model to its device and data type. Deep copies of the model share it; one that is moved or
    cast clones it first.
    """

    def set_teacher(self, teacher: SharedTeacher) -> None:
        """Set ``self.teacher`` without registering it as a submodule."""
        object.__setattr__(self, 'teacher', teacher)

    def _apply(self, fn: Any, *args: Any, **kwargs: Any) -> nn.Module:
        super()._apply(fn, *args, **kwargs)
        if self.teacher.is_shared and _changes_device_or_dtype(fn, next(self.teacher.parameters())):
            self.set_teacher(self.teacher.clone())
        self.teacher._apply(fn, *args, **kwargs)
        return self


def _changes_device_or_dtype(fn: Callable[[Tensor], Tensor], tensor: Tensor) -> bool:
    empty = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
    result = fn(empty)
    return (result.dtype, result.device) != (empty.dtype, empty.device)
