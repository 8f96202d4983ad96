"""Detection of the tensors of a model that loading a state dict has written, whatever its load hooks do."""

from collections.abc import Collection, Iterator
from typing import Any

import torch
from torch import Tensor, nn

Shapes = tuple[list[int], list[int]]  # in the file, in the model


class LoadTrace:
    """Records a model while a state dict is loaded into it, as a context manager.

    Args:
        model: The model.
        state_dict: The state dict.

    Attributes:
        own: The model's parameters and buffers by name, before loading.
        given: For each name its tensors in the file and after each load hook.
    """

    def __init__(self, model: nn.Module, state_dict: dict[str, Tensor]) -> None:
        self._model, self._file = model, state_dict
        self.own = dict(named_tensors(model))
        self.given = {name: [tensor] for name, tensor in state_dict.items()}
        self._versions = {name: _version(tensor) for name, tensor in self.own.items()}

    def __enter__(self) -> 'LoadTrace':
        self._hooks = [module.register_load_state_dict_pre_hook(self._collect) for module in self._model.modules()]
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _collect(self, _: nn.Module, state_dict: dict[str, Any], *__: Any) -> None:
        for name, tensor in state_dict.items():
            tensors = self.given.setdefault(name, [])
            if not tensors or tensors[-1] is not tensor:
                tensors.append(tensor)

    def loaded(self, reported: Collection[str]) -> set[str]:
        """Return the names of the tensors that were written.

        Args:
            reported: Names that torch reported as missing or of another shape.
        """
        now = dict(named_tensors(self._model))
        written = {
            name
            for name in self.own.keys() & now.keys()
            if now[name] is not self.own[name]
            or _version(now[name]) != self._versions[name]
            or (name not in reported and _holds(now[name], self.given.get(name, [])))
        }
        # BatchNorm adds the counter that old files lack.
        return {name for name in written if not is_counter(name) or self._is_from_file(name)}

    def _is_from_file(self, name: str) -> bool:
        return name in self.given and any(self.given[name][-1] is tensor for tensor in self._file.values())

    def left_out(self) -> set[str]:
        """Return the buffers in the file that no load hook has renamed.

        If they were not loaded, a module skipped them on purpose: Swin Transformer V2 computes tables from its window
        size.
        """
        names: dict[int, set[str]] = {}
        for name, tensors in self.given.items():
            for tensor in tensors:
                names.setdefault(id(tensor), set()).add(name)
        buffers = dict(self._model.named_buffers(remove_duplicate=False))
        return {name for name, tensor in self._file.items() if name in buffers and names[id(tensor)] == {name}}

    def resized(self, names: Collection[str]) -> dict[str, Shapes]:
        """Return the names whose tensor in the file has another number of elements, with both shapes."""
        shapes = {}
        for name in sorted(names):
            for tensor in self.given.get(name, []):
                if tensor.numel() != self.own[name].numel():
                    shapes[name] = list(tensor.shape), list(self.own[name].shape)
                    break
        return shapes


def named_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the names and tensors of all parameters and buffers of a model, shared ones under each of their names."""
    yield from model.named_parameters(remove_duplicate=False)
    yield from model.named_buffers(remove_duplicate=False)


def is_counter(name: str) -> bool:
    """Whether a name is that of BatchNorm's counter of batches, which no output depends on."""
    return name.endswith('num_batches_tracked')


def _version(tensor: Tensor) -> int | None:
    return None if tensor.is_inference() else tensor._version


def _holds(tensor: Tensor, given: list[Tensor]) -> bool:
    """Whether a tensor has the values of the file: writing to ``parameter.data`` does not change its version."""
    return bool(given) and given[-1].shape == tensor.shape and torch.equal(given[-1].to(tensor), tensor)
