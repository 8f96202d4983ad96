"""Data sets and the wrappers around them."""

from typing import Any


def inner_datasets(dataset: Any) -> list[Any]:
    """Return the data sets that a wrapper holds."""
    found = [getattr(dataset, 'dataset', None), *(getattr(dataset, 'datasets', None) or ())]
    return [inner for inner in found if inner is not None]


def leaf_datasets(dataset: Any) -> list[Any]:
    """Return the data sets below all wrappers, ``dataset`` itself if it is none."""
    return [leaf for inner in inner_datasets(dataset) for leaf in leaf_datasets(inner)] or [dataset]


def class_names(dataset: Any) -> tuple[str, ...]:
    """Return the class names that ``dataset`` states, none if it states none."""
    return tuple((getattr(dataset, 'metainfo', None) or {}).get('classes') or ())
