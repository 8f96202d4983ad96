"""Functions called before the optimizer steps, and the attributes that are replaced for them."""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import torch
from mmengine.optim import ApexOptimWrapper, OptimWrapper, OptimWrapperDict
from torch import Tensor, nn

# Takes the parameters that have a gradient, and the norm of all gradients if it is known already.
CheckGradient = Callable[[Sequence[nn.Parameter], Tensor | None], None]


class Patches:
    """Methods of objects that are replaced until :meth:`undo`."""

    def __init__(self) -> None:
        self._former: list[tuple[Any, str, Any]] = []

    def set(self, owner: Any, name: str, function: Callable) -> None:
        """Replace ``owner.name``, for this object only."""
        self._former.append((owner, name, vars(owner).get(name)))
        setattr(owner, name, function)

    def undo(self) -> None:
        """Restore everything."""
        while self._former:
            owner, name, former = self._former.pop()
            if former is None:
                delattr(owner, name)
            else:
                setattr(owner, name, former)


class StepPreHooks:
    """Calls a function before every step of one or several optimizers, also before gradients are clipped.

    Clipping by value would hide an infinite gradient, and clipping by norm has computed the norm. Optimizers with a
    gradient scaler are left alone, see :func:`scales_gradients`.

    Args:
        optim_wrapper: The optimizer wrapper of the run.
        patches: Restores what is replaced.
        check: The function.
    """

    def __init__(self, optim_wrapper: OptimWrapper | OptimWrapperDict, patches: Patches, check: CheckGradient) -> None:
        several = isinstance(optim_wrapper, OptimWrapperDict)
        self.wrappers: list[OptimWrapper] = list(optim_wrapper.values()) if several else [optim_wrapper]
        self._check = check
        for wrapper in self.wrappers:
            if scales_gradients(wrapper):
                continue
            if wrapper.clip_grad_kwargs:
                owner, name = (
                    (wrapper.clip_func, 'clip') if hasattr(wrapper.clip_func, 'clip') else (wrapper, 'clip_func')
                )
                clip = getattr(owner, name)
                by_norm = clip is torch.nn.utils.clip_grad_norm_
                patches.set(owner, name, self._clip_norm if by_norm else self._before_clip(clip))
            else:
                patches.set(wrapper, 'step', self._before_step(wrapper))

    @property
    def accumulates(self) -> bool:
        """Whether gradients are accumulated over several iterations."""
        return any(wrapper._accumulative_counts > 1 for wrapper in self.wrappers)

    @property
    def will_step(self) -> bool:
        """Whether the iteration whose losses have just been computed ends with a step that is checked."""
        wrapper = self.wrappers[0]
        return len(self.wrappers) == 1 and not scales_gradients(wrapper) and wrapper.should_sync()

    def _clip_norm(
        self,
        parameters: Sequence[nn.Parameter],
        max_norm: float,
        norm_type: float = 2.0,
        error_if_nonfinite: bool = False,
        foreach: bool | None = None,
    ) -> Tensor:
        """Do as :func:`torch.nn.utils.clip_grad_norm_`, and check the norm before the gradients are scaled by it."""
        grads = [parameter.grad for parameter in parameters]
        total = torch.nn.utils.get_total_norm(grads, norm_type, foreach=foreach)  # the check raises the error
        self._check(parameters, total)
        torch.nn.utils.clip_grads_with_norm_(parameters, max_norm, total, foreach)
        return total

    def _before_clip(self, clip: Callable) -> Callable:
        def checked(parameters: Sequence[nn.Parameter], **kwargs: Any) -> Any:
            self._check(parameters, None)
            return clip(parameters, **kwargs)

        return checked

    def _before_step(self, wrapper: OptimWrapper) -> Callable:
        # Not by a hook of the optimizer, with which it could not step all groups at once.
        step, groups = wrapper.step, wrapper.optimizer.param_groups

        @wraps(step)  # keeps the mark of mmengine's schedulers, which warn of a step that has been replaced
        def checked(**kwargs: Any) -> None:
            self._check([p for group in groups for p in group['params'] if p.grad is not None], None)
            step(**kwargs)

        return checked


def scales_gradients(wrapper: OptimWrapper) -> bool:
    """Return whether infinite gradients are expected, as a gradient scaler then lowers its scale."""
    scaler = getattr(wrapper, 'loss_scaler', None)
    return isinstance(wrapper, ApexOptimWrapper) or (scaler is not None and scaler.is_enabled())
