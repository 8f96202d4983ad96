"""Ids of the samples of a batch, and which of them have input that is not finite."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmengine.structures import BaseDataElement
from torch import Tensor

# The first of these keys that a sample has is its id.
ID_KEYS = ('img_path', 'path', 'name', 'img_id', 'id', 'sample_idx', 'index')
MAX_LISTED = 5


def sample_ids(batch: Any) -> list[str]:
    """Return the ids of the samples of a batch, each with the name of its key; the list is empty if there are none.

    Args:
        batch: A batch of the data loader: data samples of any OpenMMLab library, or dicts of tensors and lists.
    """
    return list(_ids(batch))


def _ids(node: Any) -> Iterator[str]:
    if isinstance(node, BaseDataElement):
        key = next((key for key in ID_KEYS if node.get(key) is not None), None)
        yield 'sample without an id' if key is None else _name(key, node.get(key))
    elif isinstance(node, Mapping):
        key = next((key for key in ID_KEYS if key in node), None)
        if key is not None:
            yield from (_name(key, value) for value in _values(node[key]))
            return
        for value in node.values():
            yield from _ids(value)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from _ids(value)


def _values(entry: Any) -> Sequence[Any]:
    entry = entry.tolist() if hasattr(entry, 'tolist') else entry
    return entry if isinstance(entry, list | tuple) else [entry]


def _name(key: str, value: Any) -> str:
    return str(value) if key.endswith(('path', 'name')) else f'{key} {value}'


def nonfinite_inputs(batch: Any, count: int) -> list[int]:
    """Return which samples of a batch have input that is not finite.

    Args:
        batch: A batch of the data loader.
        count: Number of its samples.

    Returns:
        Their positions in ascending order; none where the input cannot be assigned to samples.
    """
    inputs = batch.get('inputs', batch) if isinstance(batch, Mapping) else batch
    return sorted(set(_nonfinite(inputs, count)))


def _nonfinite(node: Any, count: int) -> Iterator[int]:
    if isinstance(node, Tensor):
        if node.is_floating_point() and node.dim() > 0 and len(node) == count:
            finite = node.isfinite().reshape(count, -1).all(dim=1)
            yield from (~finite).nonzero()[:, 0].tolist()
    elif isinstance(node, Mapping):
        for value in node.values():
            yield from _nonfinite(value, count)
    elif isinstance(node, list | tuple):
        if len(node) == count and all(isinstance(value, Tensor) for value in node):
            yield from (index for index, value in enumerate(node) if not value.isfinite().all())
        else:
            for value in node:
                yield from _nonfinite(value, count)


def shorten(names: Sequence[str]) -> str:
    """Return the first names and the number of the others."""
    more = len(names) - MAX_LISTED
    return ', '.join(names[:MAX_LISTED]) + (f' and {more} more' if more > 0 else '')
