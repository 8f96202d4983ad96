"""Conversion of batches to plain data, which weights-only loading accepts, and back.

The classes of data samples are stored by name. A name is looked up among the modules that are imported already and
must be that of a data sample, or of the masks or boxes in one; its attributes are set without calling the class.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reprefine.engine.errors import UserError

KIND = '__kind__'
BASES = {('mmengine', 'BaseDataElement'), ('mmdet', 'BaseInstanceMasks'), ('mmdet', 'BaseBoxes')}
SIMPLE = (type(None), bool, int, float, str, bytes)


def to_plain(value: Any) -> Any:
    """Return a copy of ``value`` made of tensors on the CPU, dicts, lists, tuples, strings and numbers.

    Raises:
        TypeError: If it holds an object of another kind.
    """
    if type(value) in SIMPLE:
        return value
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, np.ndarray | np.generic):
        return _plain_array(np.asarray(value))
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {to_plain(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return (list if isinstance(value, list) else tuple)(to_plain(item) for item in value)
    if isinstance(value, set | frozenset):
        return {KIND: 'set', 'items': [to_plain(item) for item in sorted(value, key=str)]}
    if _is_sample_class(type(value)):
        name = f'{type(value).__module__}:{type(value).__qualname__}'
        return {KIND: 'sample', 'class': name, 'fields': to_plain(vars(value))}
    raise TypeError(f'a {type(value).__module__}.{type(value).__qualname__} cannot be written as plain data')


def _plain_array(array: np.ndarray) -> dict[str, Any]:
    try:
        return {KIND: 'array', 'values': torch.from_numpy(array.copy())}
    except TypeError:  # strings and objects
        return {KIND: 'array', 'values': to_plain(array.tolist()), 'dtype': array.dtype.str}


def from_plain(value: Any) -> Any:
    """Convert the result of :func:`to_plain` back; mappings become dicts.

    Raises:
        UserError: If a class is not imported, or is not that of a data sample.
    """
    if isinstance(value, list | tuple):
        return type(value)(from_plain(item) for item in value)
    if not isinstance(value, dict):
        return value
    kind = value.get(KIND)
    if kind == 'set':
        return set(from_plain(value['items']))
    if kind == 'array':
        array = np.asarray(value['values'], dtype=value.get('dtype'))
        return array if array.ndim else array[()]
    if kind == 'sample':
        sample_class = _sample_class(value['class'])
        sample = sample_class.__new__(sample_class)
        vars(sample).update(from_plain(value['fields']))
        return sample
    return {from_plain(key): from_plain(item) for key, item in value.items()}


def _sample_class(name: str) -> type:
    module, _, path = name.partition(':')
    found: Any = sys.modules.get(module)
    for part in path.split('.'):
        found = getattr(found, part, None)
    if not isinstance(found, type) or not _is_sample_class(found):
        raise UserError(f'{name} is no data sample class that the config imports: give the config that wrote the file')
    return found


def _is_sample_class(kind: type) -> bool:
    return any((base.__module__.partition('.')[0], base.__name__) in BASES for base in kind.__mro__)
