"""Peak memory of a function."""

import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

HOW_MEASURED = {
    'cpu': 'peak bytes of live tensor storages seen by a dispatch mode: parameters, buffers, activations, gradients '
    "and optimiser state, not the input batch, the kernels' own workspaces or the interpreter",
    'cuda': 'torch.cuda.max_memory_allocated with one model on the device, input batch included',
}


class LiveMemory(TorchDispatchMode):
    """Count the bytes of tensor storages that are alive.

    A storage counts from the operation that creates it until it is freed. Views and in-place results share the
    storage of an argument and add nothing.

    Args:
        tensors: Tensors that exist already and count from the start, such as a model's parameters.

    Attributes:
        live: Bytes alive now.
        peak: Largest value of ``live`` so far.
    """

    def __init__(self, tensors: Iterable[torch.Tensor] = ()):
        super().__init__()
        self.live = 0
        self.peak = 0
        self._known: set[int] = set()
        for tensor in tensors:
            self._add(tensor.untyped_storage())

    def __torch_dispatch__(  # noqa: D102
        self, func: Callable[..., Any], types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        given = _storage_ids((args, kwargs))
        result = func(*args, **kwargs)
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage()._cdata not in given:
                self._add(tensor.untyped_storage())
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        address = storage._cdata
        if address in self._known:
            return
        self._known.add(address)
        self.live += storage.nbytes()
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._free, address, storage.nbytes())

    def _free(self, address: int, size: int) -> None:
        self._known.discard(address)
        self.live -= size


def _storage_ids(tree: object) -> set[int]:
    return {leaf.untyped_storage()._cdata for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)}


def peak_memory(model: torch.nn.Module, run: Callable[[], object]) -> int:
    """Return the peak memory in bytes of ``run``, the tensors of ``model`` included.

    Args:
        model: The only model on its device.
        run: The function.
    """
    device = next(model.parameters()).device
    if device.type == 'cuda':
        torch.cuda.reset_peak_memory_stats(device)
        run()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device)
    with LiveMemory([*model.parameters(), *model.buffers()]) as memory:
        run()
    return memory.peak
