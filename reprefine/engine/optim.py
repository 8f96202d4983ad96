"""Mixed precision without a GPU, where mmengine's own wrapper refuses to run."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper
from torch import nn

from reprefine.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class CPUAmpOptimWrapper(OptimWrapper):
    """Runs the forward pass under bfloat16 autocast on the CPU.

    The loss is not scaled: bfloat16 has the range of float32, so that small gradients do not vanish.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Enter autocast, and what gradient accumulation asks for.

        Args:
            model: The model that is trained.
        """
        with super().optim_context(model), torch.autocast('cpu', torch.bfloat16):
            yield
