"""The gate of PD-B."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from ..functional import gate_weights


def without_autocast(x: Tensor) -> AbstractContextManager:
    """Return a context without autocast on the device of ``x``."""
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()


class Gate(nn.Module):
    """Branch weights of each sample: global average pooling, two linear layers and a softmax, at least in float32.

    Args:
        in_channels: Input channels ``I``.
        branches: Number of branches ``J``.
        reduction: Reduction ratio; the hidden layer has ``max(I // reduction, 1)`` units.
    """

    def __init__(self, in_channels: int, branches: int, reduction: int = 16):
        super().__init__()
        hidden = max(in_channels // reduction, 1)
        self.fc1 = nn.Linear(in_channels, hidden)
        self.fc2 = nn.Linear(hidden, branches)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[N, I, H, W]`` to branch weights ``[N, J]``; each row sums to one."""
        dtype = torch.promote_types(x.dtype, torch.float32)
        parameters = [p.to(dtype) for layer in (self.fc1, self.fc2) for p in (layer.weight, layer.bias)]
        with without_autocast(x):
            return gate_weights(x.mean(dim=(2, 3), dtype=dtype), *parameters)
