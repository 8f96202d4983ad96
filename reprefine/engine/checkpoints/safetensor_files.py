"""Reading and writing weights as ``.safetensors``: tensors and strings, and no way to hold anything else."""

import json
import os
import struct
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from reprefine.engine.errors import UserError, one_line

SUFFIX = '.safetensors'


def is_safetensors(filename: str) -> bool:
    """Tell by its name whether a file is of this format."""
    return filename.lower().endswith(SUFFIX)


def read_safetensors(filename: str, map_location: Any = 'cpu') -> dict[str, Any]:
    """Read a local file.

    Args:
        filename: Path of an existing file.
        map_location: Name of a device or a device; anything else that :func:`torch.load` takes means the CPU.

    Returns:
        The tensors under ``state_dict``, and under ``meta`` what :func:`write_safetensors` was given as such.

    Raises:
        UserError: If the file is damaged or of another format, or the package is not installed.
    """
    safetensors = _package()
    device = str(map_location) if isinstance(map_location, str | torch.device) else 'cpu'
    try:
        with safetensors.safe_open(os.path.expanduser(filename), framework='pt', device=device) as file:
            state_dict = OrderedDict((name, file.get_tensor(name)) for name in file.keys())  # noqa: SIM118, it is no dict
            metadata = file.metadata() or {}
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        fault = f'it is cut short or damaged: {one_line(error)}'
        raise UserError(f'checkpoint {filename} cannot be read, {fault}') from error
    if versions := _decoded(metadata.get('versions', '{}')):
        state_dict._metadata = versions
    return dict(state_dict=state_dict, meta=_decoded(metadata.get('meta', '{}')))


def write_safetensors(state_dict: Mapping[str, Tensor], meta: Mapping[str, Any], filename: str) -> None:
    """Write tensors, each with memory of its own, and a record; the same content gives the same bytes.

    Args:
        state_dict: The tensors, contiguous and on the CPU; the versions of modules that torch adds to it go along.
        meta: What goes along, as far as JSON holds it: the keys of dicts become strings, tuples become lists.
        filename: File to write.

    Raises:
        OSError: If the file cannot be written.
        UserError: If the package is not installed.
    """
    _package()
    from safetensors.torch import save

    # Strings only; the format is what other libraries look for, the versions what load hooks of modules look for.
    records = {'meta': meta, 'versions': getattr(state_dict, '_metadata', {})}
    metadata = {name: json.dumps(record, sort_keys=True) for name, record in records.items() if record}
    header, data = _sorted_header(save(dict(state_dict), {'format': 'pt'} | metadata))
    with open(filename, 'wb') as file:
        file.write(struct.pack('<Q', len(header)) + header)
        file.write(data)


def _sorted_header(content: bytes) -> tuple[bytes, memoryview]:
    """Return header and data of a file, with the strings in a fixed order; the package writes them in any."""
    (length,) = struct.unpack_from('<Q', content)
    header = json.loads(content[8 : 8 + length])
    header['__metadata__'] = dict(sorted(header['__metadata__'].items()))
    text = json.dumps(header, separators=(',', ':'), ensure_ascii=False).encode()
    return text.ljust(-(-len(text) // 8) * 8), memoryview(content)[8 + length :]


def _package() -> Any:
    try:
        import safetensors
    except ImportError as error:
        raise UserError(f'{SUFFIX} files need safetensors: pip install safetensors') from error
    return safetensors


def _decoded(text: str) -> dict[str, Any]:
    """Return a record of ours; that of a foreign file, which may be anything, counts as none."""
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}
