"""Datasets inside wrappers such as ``ConcatDataset`` and ``RepeatDataset``."""

from collections.abc import Iterator
from typing import Any


def wrapped_datasets(dataset: Any) -> dict[str, Any]:
    """Return the datasets inside a wrapper by attribute (``dataset``, ``datasets.0``); empty if it is none."""
    found = {'dataset': getattr(dataset, 'dataset', None)}
    found |= {f'datasets.{index}': inner for index, inner in enumerate(getattr(dataset, 'datasets', None) or ())}
    return {name: inner for name, inner in found.items() if inner is not None}


def named_leaf_datasets(dataset: Any, path: str = '') -> Iterator[tuple[str, Any]]:
    """Yield the datasets below all wrappers, or ``dataset`` itself, each with its path from ``path`` on."""
    inner = wrapped_datasets(dataset)
    for name, wrapped in inner.items():
        yield from named_leaf_datasets(wrapped, f'{path}.{name}')
    if not inner:
        yield path, dataset


def leaf_datasets(dataset: Any) -> list[Any]:
    """Return the datasets below all wrappers, ``dataset`` itself if it is none."""
    return [leaf for _, leaf in named_leaf_datasets(dataset)]


def class_names(dataset: Any) -> tuple[str, ...]:
    """Return the class names in the ``metainfo`` of a dataset, none if it has none."""
    return tuple((getattr(dataset, 'metainfo', None) or {}).get('classes') or ())
