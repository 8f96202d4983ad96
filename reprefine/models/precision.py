"""Mixin whose buffers keep their data type when a model is cast."""

from typing import Any

from torch import nn


class FullPrecisionBuffers(nn.Module):
    """Mixin of a module with buffers that need full precision, such as a noise schedule with values close to 1.

    Attributes:
        full_precision: Names of the buffers that keep their data type under ``half()``, ``bfloat16()`` and
            ``to(dtype)``. They are moved to another device as usual.
    """

    full_precision: tuple[str, ...] = ()

    def _apply(self, fn: Any, *args: Any, **kwargs: Any) -> nn.Module:
        kept = {name: self._buffers[name] for name in self.full_precision if name in self._buffers}
        super()._apply(fn, *args, **kwargs)
        for name, buffer in kept.items():
            if not buffer.is_meta:
                self._buffers[name] = buffer.to(self._buffers[name].device)
        return self
