"""Cache of the merged weights ``W'`` and biases ``b'`` of a model in evaluation."""

from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

WeightBias = tuple[Tensor, Tensor | None]


class _Entry(NamedTuple):
    """The tensors that were merged, a fingerprint of their values, and the result."""

    tensors: tuple[Tensor | None, ...]
    fingerprint: tuple
    merged: WeightBias


class MergedWeights:
    """Cache of merged weight and bias per layer, which is recomputed when one of the merged tensors changes.

    A change is detected by the identity, address and version counter of every parameter, and by the constants of the
    timestep. An entry is also discarded by every call of ``train`` or ``eval`` and when its layer is moved or cast,
    because writing *into* ``parameter.data``, as mmengine's ``EMAHook`` does before it calls ``eval``, does not change
    the version counter.
    """

    def __init__(self) -> None:
        self._entries: WeakKeyDictionary[nn.Module, _Entry] = WeakKeyDictionary()

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles start empty."""
        return MergedWeights, ()

    def get(self, layer: nn.Module) -> WeightBias:
        """Return the merged weight and bias of a denoising layer, from the cache if they are up to date.

        With gradients enabled, and for traced weights, nothing is cached.

        Args:
            layer: Layer with ``denoiser`` and ``effective_weight_bias``.
        """
        tensors = (layer.weight, layer.bias, *layer.denoiser.parameters())
        if torch.is_grad_enabled() or not _has_version(layer.weight):
            return layer.effective_weight_bias()
        fingerprint = (layer.denoiser.step, *(None if t is None else (t._version, t.data_ptr()) for t in tensors))
        entry = self._entries.get(layer)
        if entry is None or entry.fingerprint != fingerprint or any(map(_is_other, entry.tensors, tensors)):
            entry = _Entry(tensors, fingerprint, layer.effective_weight_bias())
            self._entries[layer] = entry
        return entry.merged

    def discard(self, layer: nn.Module) -> None:
        """Remove the entry of one layer."""
        self._entries.pop(layer, None)

    def clear(self) -> None:
        """Remove all entries."""
        self._entries.clear()

    def __len__(self) -> int:
        return len(self._entries)


def _has_version(weight: Tensor) -> bool:
    """Return whether a weight is a parameter with a version counter: not traced, compiled or an inference tensor."""
    is_traced = torch.compiler.is_compiling() or torch.jit.is_tracing()
    return type(weight) is nn.Parameter and not weight.is_inference() and not is_traced


def _is_other(first: Any, second: Any) -> bool:
    return first is not second
