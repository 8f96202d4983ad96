"""Buffers that keep their precision when a model is cast."""

from typing import Any

from torch import nn


class KeepsPrecision(nn.Module):
    """Mixin of a module with tables that are too coarse in half precision, such as a noise schedule close to 1.

    Attributes:
        full_precision: Names of the buffers that keep their data type under ``half()``, ``bfloat16()`` and
            ``to(dtype)``. They follow the module to its device.
    """

    full_precision: tuple[str, ...] = ()

    def _apply(self, fn: Any, *args: Any, **kwargs: Any) -> nn.Module:
        kept = {name: self._buffers[name] for name in self.full_precision if name in self._buffers}
        super()._apply(fn, *args, **kwargs)
        for name, table in kept.items():
            if not table.is_meta:
                self._buffers[name] = table.to(self._buffers[name].device)
        return self
