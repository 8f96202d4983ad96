"""A frozen teacher that a model uses without owning it, and that copies of the model share."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class SharedInCopies(nn.Module):
    """A frozen network that the deep copies of a model share, until one of the models is moved or cast."""

    is_shared = False

    def __deepcopy__(self, memo: dict) -> 'SharedInCopies':
        """Return the network itself, which training does not change."""
        self.is_shared = True
        return self

    def own_copy(self) -> 'SharedInCopies':
        """Return a copy that nothing shares."""
        twin = type(self).__new__(type(self))
        twin.__dict__.update(copy.deepcopy(self.__dict__, {id(self): twin}), is_shared=False)
        return twin


class HoldsTeacher(nn.Module):
    """Mixin of a model that uses a teacher without owning it.

    The teacher follows the model to its device and data type, and is found neither among its modules nor in its state
    dict. Deep copies of the model share it; one that is moved or cast gets a teacher of its own first.
    """

    def hold(self, teacher: SharedInCopies) -> None:
        """Keep the teacher as ``self.teacher``."""
        object.__setattr__(self, 'teacher', teacher)

    def _apply(self, fn: Any, *args: Any, **kwargs: Any) -> nn.Module:
        super()._apply(fn, *args, **kwargs)
        if self.teacher.is_shared and _changes(fn, next(self.teacher.parameters())):
            self.hold(self.teacher.own_copy())
        self.teacher._apply(fn, *args, **kwargs)
        return self


def _changes(fn: Callable[[Tensor], Tensor], tensor: Tensor) -> bool:
    """Whether a function that moves or casts changes the device or data type of a tensor."""
    probe = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
    result = fn(probe)
    return (result.dtype, result.device) != (probe.dtype, probe.device)
