"""Weights-only reading of checkpoints, also for the host libraries."""

import functools
import os
import re
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_gather_object
from mmengine.runner import CheckpointLoader

from reprefine.compat import allow_mmengine_checkpoints
from reprefine.engine.errors import UserError

from .integrity import check_checkpoint_exists, checksum_file, find_corruption
from .safetensor_files import is_safetensors, read_safetensors

allow_mmengine_checkpoints()  # also for tools that do not import the registries

CONFIG_TEXTS = ('cfg', 'config')  # mmengine's keys of the config text in a checkpoint


@contextmanager
def raise_on_all_ranks() -> Iterator[None]:
    """Raise a :class:`UserError` of any rank on all ranks, so that no rank waits for the others."""
    error = None
    try:
        yield
    except UserError as caught:
        error = caught
    first = next(filter(None, all_gather_object(str(error) if error else None)), None)
    if first is not None:
        raise error or UserError(first)


def read_checkpoint(filename: str, map_location: Any = 'cpu', mmap: bool = False) -> dict[str, Any]:
    """Read a checkpoint weights-only.

    Args:
        filename: Local path, also of a ``.safetensors`` file, or URL of any scheme that mmengine knows.
        map_location: As in :func:`torch.load`.
        mmap: Read tensors of a local file when they are accessed, without verifying the checksum.

    Raises:
        UserError: If the file is missing, truncated or no checkpoint, or holds objects whose loading runs code.
    """
    check_checkpoint_exists(filename)
    if '://' not in filename and is_safetensors(filename):
        return read_safetensors(filename, map_location)
    try:
        if '://' in filename:
            with _weights_only():
                checkpoint = CheckpointLoader.load_checkpoint(filename, map_location)
        else:
            path = Path(filename).expanduser()
            is_zip = zipfile.is_zipfile(path)  # torch's format since 1.6
            if not mmap and (is_zip or checksum_file(path).is_file()) and (corruption := find_corruption(path)):
                raise UserError(f'checkpoint {filename} cannot be read: {corruption}')
            checkpoint = torch.load(path, map_location=map_location, weights_only=True, mmap=mmap and is_zip)
    except UserError:
        raise
    except Exception as error:  # a malicious file can raise anything
        if refused := re.search(r'GLOBAL (\S+)|unrecognized function (\S+)', str(error)):
            name = refused[1] or refused[2]
            raise UserError(
                f'checkpoint {filename} refused: it holds objects whose loading may run code ({name}); save it with '
                'tensors and plain data only'
            ) from error
        kind = type(error).__name__
        raise UserError(f'checkpoint {filename} cannot be read, it is truncated or no checkpoint ({kind})') from error
    if not isinstance(checkpoint, dict):
        raise UserError(f'checkpoint {filename} holds a {type(checkpoint).__name__} instead of a state dict')
    if reason := _no_weights(checkpoint.get('state_dict', checkpoint)):
        raise UserError(f'checkpoint {filename} {reason}')
    return checkpoint


# mmengine's loaders of URLs call torch.load themselves and have no argument for it.
_VARIABLES = ('TORCH_FORCE_WEIGHTS_ONLY_LOAD', 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD')
_variables_lock = threading.RLock()


@contextmanager
def _weights_only() -> Iterator[None]:
    """Make ``torch.load`` weights-only within the block, whatever the environment variables of the process are."""
    with _variables_lock:
        former = {name: os.environ.pop(name) for name in _VARIABLES if name in os.environ}
        os.environ[_VARIABLES[0]] = '1'
        try:
            yield
        finally:
            del os.environ[_VARIABLES[0]]
            os.environ.update(former)


def _no_weights(weights: Any) -> str | None:
    """Return why something is no valid state dict, None if it is one."""
    if not isinstance(weights, dict):
        return f'has a {type(weights).__name__} as its state dict'
    for name, value in weights.items():
        if not isinstance(name, str):
            return f'has a weight by the name {name!r}, which is no string'
        if torch.is_tensor(value) and (value.is_meta or value.layout != torch.strided):
            return f'holds no values of {name}: it is a sparse tensor or one without memory'
    return None


def without_config(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Return a checkpoint without config texts, which mmengine would run as Python to resume and in inferencers."""
    changed = {}
    if isinstance(meta := checkpoint.get('meta'), dict):
        changed['meta'] = _without_texts(meta)
    if isinstance(hub := checkpoint.get('message_hub'), dict):
        parts = {key: _without_texts(value) for key, value in hub.items() if isinstance(value, dict)}
        changed['message_hub'] = hub | parts
    # Unless changed it is not copied: a bare state dict has the versions of modules as an attribute.
    return {**checkpoint, **changed} if changed else checkpoint


def _without_texts(record: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in CONFIG_TEXTS}


def load_from_local(filename: str, map_location: Any = 'cpu') -> dict[str, Any]:
    """Read a local checkpoint for a host library; see :func:`read_checkpoint` and :func:`without_config`."""
    return without_config(read_checkpoint(filename, map_location))


def register_loaders() -> None:
    """Let mmengine's ``CheckpointLoader`` read local files weights-only and drop the config texts of all files."""
    for prefix, loader in list(CheckpointLoader._schemes.items()):
        if not hasattr(loader, '__wrapped__'):
            safe = _wrap_without_config(loader) if prefix else load_from_local
            CheckpointLoader.register_scheme(prefix, safe, force=True)


def _wrap_without_config(loader: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(loader)
    def load(*args: Any, **kwargs: Any) -> Any:
        checkpoint = loader(*args, **kwargs)
        return without_config(checkpoint) if isinstance(checkpoint, dict) else checkpoint

    return load
