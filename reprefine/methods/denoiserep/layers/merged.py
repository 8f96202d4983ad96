"""The merged weights of a model in evaluation, kept from one forward pass to the next."""

from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

WeightBias = tuple[Tensor, Tensor | None]


class _Entry(NamedTuple):
    """What a merge was computed from, and its result."""

    tensors: tuple[Tensor | None, ...]
    fingerprint: tuple
    merged: WeightBias


class MergedWeights:
    """Merged weight and bias per layer, forgotten as soon as what they were computed from has changed.

    A change is seen by the identity, address and version counter of every parameter, and by the constants of the
    timestep. A layer is also forgotten with every call of ``train`` or ``eval`` and when it is moved or cast, because
    writing *into* ``parameter.data``, as mmengine's ``EMAHook`` does before it calls ``eval``, leaves no trace.
    """

    def __init__(self) -> None:
        self._entries: WeakKeyDictionary[nn.Module, _Entry] = WeakKeyDictionary()

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles start empty."""
        return MergedWeights, ()

    def of(self, layer: nn.Module) -> WeightBias:
        """Return the merged weight and bias of a denoising layer in evaluation.

        Args:
            layer: Layer with ``denoiser`` and ``effective_weight_bias``.
        """
        tensors = (layer.weight, layer.bias, *layer.denoiser.parameters())
        if torch.is_grad_enabled() or not _is_plain(layer.weight):
            return layer.effective_weight_bias()
        fingerprint = (layer.denoiser.step, *(None if t is None else (t._version, t.data_ptr()) for t in tensors))
        entry = self._entries.get(layer)
        if entry is None or entry.fingerprint != fingerprint or any(map(_is_other, entry.tensors, tensors)):
            entry = _Entry(tensors, fingerprint, layer.effective_weight_bias())
            self._entries[layer] = entry
        return entry.merged

    def forget(self, layer: nn.Module) -> None:
        """Drop one layer."""
        self._entries.pop(layer, None)

    def clear(self) -> None:
        """Drop all layers."""
        self._entries.clear()

    def __len__(self) -> int:
        return len(self._entries)


def _is_plain(weight: Tensor) -> bool:
    """Whether a weight is a stored parameter, and neither a tracer's nor one without version counter."""
    is_traced = torch.compiler.is_compiling() or torch.jit.is_tracing()
    return type(weight) is nn.Parameter and not weight.is_inference() and not is_traced


def _is_other(first: Any, second: Any) -> bool:
    return first is not second
