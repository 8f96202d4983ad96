"""Looking at the gradient before an optimiser uses it."""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import torch
from mmengine.optim import ApexOptimWrapper, OptimWrapper, OptimWrapperDict
from torch import Tensor, nn

from .swap import Swaps

# Takes the parameters that have a gradient, and the norm of the whole if it is known already.
Look = Callable[[Sequence[nn.Parameter], Tensor | None], None]


class UpdateWatch:
    """Calls a function before every update of one or several optimisers, also before gradients are clipped.

    Clipping by value would hide an infinite gradient, and clipping by norm has computed what is wanted. Optimisers with
    a gradient scaler are left alone, see :func:`scales_gradients`.

    Args:
        optim_wrapper: The optimiser wrapper of the run.
        swaps: Takes note of what is exchanged.
        look: The function.
    """

    def __init__(self, optim_wrapper: OptimWrapper | OptimWrapperDict, swaps: Swaps, look: Look) -> None:
        several = isinstance(optim_wrapper, OptimWrapperDict)
        self.wrappers: list[OptimWrapper] = list(optim_wrapper.values()) if several else [optim_wrapper]
        self._look = look
        for wrapper in self.wrappers:
            if scales_gradients(wrapper):
                continue
            if wrapper.clip_grad_kwargs:
                owner, name = (
                    (wrapper.clip_func, 'clip') if hasattr(wrapper.clip_func, 'clip') else (wrapper, 'clip_func')
                )
                clip = getattr(owner, name)
                by_norm = clip is torch.nn.utils.clip_grad_norm_
                swaps.swap(owner, name, self._clip_norm if by_norm else self._before_clip(clip))
            else:
                swaps.swap(wrapper, 'step', self._before_step(wrapper))

    @property
    def accumulates(self) -> bool:
        """Whether gradients are summed over several steps."""
        return any(wrapper._accumulative_counts > 1 for wrapper in self.wrappers)

    @property
    def follows(self) -> bool:
        """Whether the step whose losses have just been computed ends with an update that is watched."""
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
        """Do as :func:`torch.nn.utils.clip_grad_norm_`, and look at the norm before the gradients are scaled by it."""
        grads = [parameter.grad for parameter in parameters]
        total = torch.nn.utils.get_total_norm(grads, norm_type, foreach=foreach)  # an error is raised by who looks
        self._look(parameters, total)
        torch.nn.utils.clip_grads_with_norm_(parameters, max_norm, total, foreach)
        return total

    def _before_clip(self, clip: Callable) -> Callable:
        def checked(parameters: Sequence[nn.Parameter], **kwargs: Any) -> Any:
            self._look(parameters, None)
            return clip(parameters, **kwargs)

        return checked

    def _before_step(self, wrapper: OptimWrapper) -> Callable:
        # Not by a hook of the optimiser, which would have it update group by group.
        step, groups = wrapper.step, wrapper.optimizer.param_groups

        @wraps(step)  # with the mark of mmengine's schedulers, which warn of a step that somebody has replaced
        def checked(**kwargs: Any) -> None:
            self._look([p for group in groups for p in group['params'] if p.grad is not None], None)
            step(**kwargs)

        return checked


def scales_gradients(wrapper: OptimWrapper) -> bool:
    """Tell whether infinite gradients are expected, because a scale is being sought at which there are none."""
    scaler = getattr(wrapper, 'loss_scaler', None)
    return isinstance(wrapper, ApexOptimWrapper) or (scaler is not None and scaler.is_enabled())
