"""Making a file to hand out from a checkpoint of training: the weights, and nothing that tells on its author."""

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
DIGITS = 8  # of the SHA-256 in the name of the file, as OpenMMLab's model zoos have it
# Parts of ``meta`` that tell of the run's machine, wherever they stand.
_PRIVATE = {'cfg', 'config', 'env_info', 'experiment_name', 'exp_name', 'hook_msgs', 'time', 'user', 'host', 'hostname'}
_PATH = re.compile(r'^(~|/|[A-Za-z]:[\\/]|\\\\|file:)|\n')
_LEFT_OUT = object()


class Published(NamedTuple):
    """What :func:`publish` wrote.

    Attributes:
        file: The file; its name ends in the first digits of its SHA-256.
        tensors: Number of tensors in it.
        kept_meta: Names of ``meta`` that went along.
        dropped_meta: Names of ``meta`` that did not.
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
    """Write the weights of a checkpoint with a clean record, and the first digits of the SHA-256 in the file's name.

    Of ``meta`` stay numbers, versions and what is known of the data set, see :func:`clean_meta`. If the run kept a
    moving average of its weights, ``state_dict`` holds the average, and that is what is published.

    Args:
        source: Checkpoint, read weights-only.
        target: ``name.pth`` or ``name.safetensors``; written is ``name-<digits>`` with the same suffix, whole or not at
            all.
        save_keys: Parts of the checkpoint to write. A ``.safetensors`` file holds no others than the default ones.
        checkpoint_key: Entry that holds the weights to publish, see :func:`.entries.select_weights`.
        revise_keys: Pairs of pattern and replacement for their names.

    Raises:
        UserError: If the source cannot be read or lacks such a part, the target has another suffix, cannot be written,
            or exists with another content.
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
    content['state_dict'] = own_memory(checkpoint['state_dict'], shared=not is_safetensors(target.name))
    kept = clean_meta(meta) if 'meta' in save_keys else {}
    written = _write({'meta': kept, **content}, target)
    averaged = checkpoint_key in (None, 'state_dict') and 'ema_state_dict' in checkpoint
    dropped = sorted(str(key) for key in meta.keys() - kept.keys())
    return Published(written, len(content['state_dict']), sorted(kept), dropped, averaged)


def _check_request(target: Path, save_keys: Sequence[str]) -> None:
    if target.suffix not in (*TORCH_SUFFIXES, SUFFIX):
        raise UserError(f'{target}: published are .pth and {SUFFIX} files')
    if 'state_dict' not in save_keys:
        raise UserError('--save-keys without state_dict would publish no weights: add it')
    others = [key for key in save_keys if key not in DEFAULT_KEYS]
    if is_safetensors(target.name) and others:
        raise UserError(f'{target}: a {SUFFIX} file holds weights only, not {", ".join(others)}: publish a .pth')


def clean_meta(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a checkpoint's ``meta`` that tells nothing of the machine or the person it comes from.

    Kept are numbers, flags, the strings named ``*_version``, and dicts and lists of such values and of names, like
    ``dataset_meta``. Texts of configs, paths, and any other string at the top go. Arrays of NumPy become lists, so that
    torch loads the file without knowing NumPy.

    Args:
        meta: The record of a run.
    """
    kept = {}
    for key, value in meta.items():
        if not isinstance(value, str) or str(key).endswith('_version'):
            cleaned = _clean(value)
            if cleaned is not _LEFT_OUT and key not in _PRIVATE:
                kept[key] = cleaned
    return kept


def _clean(value: Any) -> Any:
    """Return ``value`` made of plain data, or the mark for what is left out."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return _LEFT_OUT if _PATH.search(value) else value
    if isinstance(value, dict):
        pairs = {key: _clean(item) for key, item in value.items() if key not in _PRIVATE}
        return {key: item for key, item in pairs.items() if item is not _LEFT_OUT}
    if isinstance(value, list | tuple):
        items = [item for item in map(_clean, value) if item is not _LEFT_OUT]
        return tuple(items) if isinstance(value, tuple) else items
    return _LEFT_OUT


def own_memory(state_dict: Mapping[str, Any], shared: bool) -> dict[str, Any]:
    """Copy tensors to memory of their own on the CPU, so that nothing is written beside what they show.

    Args:
        state_dict: The tensors.
        shared: Whether names of one tensor, such as tied weights, keep sharing it, as a file of torch can say;
            ``.safetensors`` files cannot, there each name gets a copy.

    Raises:
        UserError: If there is anything but tensors, and ``shared`` is off.
    """
    copies, result = {}, OrderedDict()
    if hasattr(state_dict, '_metadata'):  # the versions of modules
        result._metadata = state_dict._metadata
    for name, value in state_dict.items():
        if not torch.is_tensor(value):
            if not shared:
                raise UserError(f'{name} is no tensor, and a {SUFFIX} file holds nothing else: publish a .pth')
            result[name] = value
            continue
        same = (value.data_ptr(), value.shape, value.stride(), value.dtype) if shared and value.numel() else name
        if same not in copies:
            copies[same] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        result[name] = copies[same]
    return result


def _write(content: dict[str, Any], target: Path) -> Path:
    """Write a file under the name that its content gives it."""
    try:
        with atomic_write(target) as partial:
            _serialise(content, partial)
            digits = sha256(Path(partial))
            named = target.with_name(f'{target.stem}-{digits[:DIGITS]}{target.suffix}')
            if named.exists() and sha256(named) != digits:
                raise UserError(f'{named} exists with another content: give another name, or remove it')
            os.replace(partial, named)  # and so nothing is left for the name without digits
    except OSError as error:
        raise UserError(f'{target} cannot be written: {one_line(error)}') from error
    return named


def _serialise(content: dict[str, Any], partial: str) -> None:
    if is_safetensors(partial):
        write_safetensors(content['state_dict'], content['meta'], partial)
        return
    with open(partial, 'wb') as file:  # given a name, torch would write that into the file
        torch.save(content, file)
