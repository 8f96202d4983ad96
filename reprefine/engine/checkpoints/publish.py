"""Publishing a checkpoint of training: its weights with a record free of the machine and the author."""

import os
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from reprefine.engine.errors import UserError, one_line
from reprefine.engine.files import atomic_write

from .checkpoint import read_checkpoint
from .entries import select_weights
from .integrity import sha256
from .safetensor_files import SUFFIX, is_safetensors, write_safetensors

DEFAULT_KEYS = ('meta', 'state_dict')
TORCH_SUFFIXES = ('.pth', '.pt')
DIGITS = 8  # of the SHA-256 in the file name, as in OpenMMLab's model zoos
# Keys of ``meta``, at any depth, that describe the machine or the user.
_PRIVATE = {'cfg', 'config', 'env_info', 'experiment_name', 'exp_name', 'hook_msgs', 'time', 'user', 'host', 'hostname'}
_PATH = re.compile(r'^(~|/|[A-Za-z]:[\\/]|\\\\|file:)|\n')
_DROPPED = object()


class Published(NamedTuple):
    """What :func:`publish` wrote.

    Attributes:
        file: The file; its name ends in the first digits of its SHA-256.
        tensors: Number of tensors in it.
        kept_meta: Keys of ``meta`` that were kept.
        dropped_meta: Keys of ``meta`` that were dropped.
        averaged: Whether the weights are the moving average of the run.
    """

    file: Path
    tensors: int
    kept_meta: list[str]
    dropped_meta: list[str]
    averaged: bool


def publish(
    source: str | Path,
    target: str | Path,
    save_keys: Sequence[str] = DEFAULT_KEYS,
    checkpoint_key: str | None = None,
    revise_keys: Sequence[tuple[str, str]] = (),
) -> Published:
    """Write the weights of a checkpoint to a file whose name ends in the first digits of its SHA-256.

    Of ``meta`` numbers, versions and the dataset's record are kept, see :func:`clean_meta`. If the run kept a moving
    average of its weights, ``state_dict`` holds the average, which is published.

    Args:
        source: Checkpoint, read weights-only.
        target: ``name.pth`` or ``name.safetensors``; ``name-<digits>`` with the same suffix is written atomically.
        save_keys: Entries of the checkpoint to write. A ``.safetensors`` file holds the default ones only.
        checkpoint_key: Entry that holds the weights, see :func:`.entries.select_weights`.
        revise_keys: Pairs of pattern and replacement for their keys.

    Raises:
        UserError: If the source cannot be read or lacks an entry, or the target has another suffix, cannot be written
            or exists with other content.
    """
    target = Path(target)
    _check_request(target, save_keys)
    checkpoint = select_weights(read_checkpoint(str(source)), str(source), checkpoint_key, revise_keys)
    if 'state_dict' not in checkpoint and checkpoint and all(map(torch.is_tensor, checkpoint.values())):
        checkpoint = dict(state_dict=checkpoint)
    absent = [key for key in save_keys if key not in checkpoint and key != 'meta']
    if absent or not checkpoint['state_dict']:
        raise UserError(
            f'{source} holds no {", ".join(absent) or "weights"}; it holds {", ".join(map(str, checkpoint))}'
        )
    meta = checkpoint.get('meta') if isinstance(checkpoint.get('meta'), dict) else {}
    content = {key: checkpoint[key] for key in save_keys if key != 'meta'}
    content['state_dict'] = copy_tensors(checkpoint['state_dict'], shared=not is_safetensors(target.name))
    kept = clean_meta(meta) if 'meta' in save_keys else {}
    written = _write({'meta': kept, **content}, target)
    averaged = checkpoint_key in (None, 'state_dict') and 'ema_state_dict' in checkpoint
    dropped = sorted(str(key) for key in meta.keys() - kept.keys())
    return Published(written, len(content['state_dict']), sorted(kept), dropped, averaged)


def _check_request(target: Path, save_keys: Sequence[str]) -> None:
    if target.suffix not in (*TORCH_SUFFIXES, SUFFIX):
        raise UserError(f'{target}: the suffix is {target.suffix!r}; it must be .pth, .pt or {SUFFIX}')
    if 'state_dict' not in save_keys:
        raise UserError('--save-keys without state_dict would publish no weights: add it')
    others = [key for key in save_keys if key not in DEFAULT_KEYS]
    if is_safetensors(target.name) and others:
        raise UserError(f'{target}: a {SUFFIX} file holds weights only, not {", ".join(others)}: publish a .pth')


def clean_meta(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Return a checkpoint's ``meta`` without what describes the machine or the user.

    Numbers, flags, strings with a key ``*_version``, and dicts and lists of such values and of names, like
    ``dataset_meta``, are kept. Config texts, paths and all other strings at the top level are dropped. Arrays of NumPy
    become lists, so that weights-only loading needs no allow-list.

    Args:
        meta: The record of a run.
    """
    kept = {}
    for key, value in meta.items():
        if not isinstance(value, str) or str(key).endswith('_version'):
            cleaned = _clean(value)
            if cleaned is not _DROPPED and key not in _PRIVATE:
                kept[key] = cleaned
    return kept


def _clean(value: Any) -> Any:
    """Return a value as plain data, or ``_DROPPED``."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return _DROPPED if _PATH.search(value) else value
    if isinstance(value, dict):
        pairs = {key: _clean(item) for key, item in value.items() if key not in _PRIVATE}
        return {key: item for key, item in pairs.items() if item is not _DROPPED}
    if isinstance(value, list | tuple):
        items = [item for item in map(_clean, value) if item is not _DROPPED]
        return tuple(items) if isinstance(value, tuple) else items
    return _DROPPED


def copy_tensors(state_dict: Mapping[str, Any], shared: bool) -> dict[str, Any]:
    """Copy tensors to their own memory on the CPU, so that a view does not write the whole storage to a file.

    Args:
        state_dict: The tensors.
        shared: Whether tied weights stay one tensor, as in torch's files; in ``.safetensors`` files each key needs a
            copy.

    Raises:
        UserError: If there is a value that is no tensor, and ``shared`` is False.
    """
    copies: dict[Any, torch.Tensor] = {}
    result: OrderedDict[str, Any] = OrderedDict()
    if hasattr(state_dict, '_metadata'):  # the versions of modules
        result._metadata = state_dict._metadata
    for name, value in state_dict.items():
        if not torch.is_tensor(value):
            if not shared:
                raise UserError(f'{name} is no tensor, and a {SUFFIX} file holds tensors only: publish a .pth')
            result[name] = value
            continue
        same = (value.data_ptr(), value.shape, value.stride(), value.dtype) if shared and value.numel() else name
        if same not in copies:
            copies[same] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        result[name] = copies[same]
    return result


def _write(content: dict[str, Any], target: Path) -> Path:
    """Write a file and add the digits of its SHA-256 to its name."""
    try:
        with atomic_write(target) as partial:
            _serialise(content, partial)
            digits = sha256(Path(partial))
            named = target.with_name(f'{target.stem}-{digits[:DIGITS]}{target.suffix}')
            if named.exists() and sha256(named) != digits:
                raise UserError(f'{named} exists with other content: give another name, or remove it')
            os.replace(partial, named)  # atomic_write then has nothing to rename
    except OSError as error:
        raise UserError(f'{target} cannot be written: {one_line(error)}') from error
    return named


def _serialise(content: dict[str, Any], partial: str) -> None:
    if is_safetensors(partial):
        write_safetensors(content['state_dict'], content['meta'], partial)
        return
    with open(partial, 'wb') as file:  # given a path, torch writes it into the file
        torch.save(content, file)
