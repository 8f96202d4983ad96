"""Reading and writing of ``.safetensors`` files, which hold only tensors and strings."""

import json
import os
import struct
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import safetensors
import torch
from safetensors.torch import save
from torch import Tensor

from reprefine.engine.errors import UserError, one_line

SUFFIX = '.safetensors'


def is_safetensors(filename: str) -> bool:
    """Whether a file name has the suffix of this format."""
    return filename.lower().endswith(SUFFIX)


def read_safetensors(filename: str, map_location: Any = 'cpu') -> dict[str, Any]:
    """Read a local ``.safetensors`` file.

    Args:
        filename: Path of an existing file.
        map_location: Device or its name; for anything else that :func:`torch.load` accepts, the CPU is used.

    Returns:
        The tensors as ``state_dict``, and the record ``meta`` of :func:`write_safetensors`.

    Raises:
        UserError: If the file is corrupted or of another format.
    """
    device = str(map_location) if isinstance(map_location, str | torch.device) else 'cpu'
    try:
        with safetensors.safe_open(os.path.expanduser(filename), framework='pt', device=device) as file:
            state_dict = OrderedDict((name, file.get_tensor(name)) for name in file.keys())  # noqa: SIM118, it is no dict
            metadata = file.metadata() or {}
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        reason = f'it is truncated or damaged: {one_line(error)}'
        raise UserError(f'checkpoint {filename} cannot be read, {reason}') from error
    if versions := _decoded(metadata.get('versions', '{}')):
        state_dict._metadata = versions
    return dict(state_dict=state_dict, meta=_decoded(metadata.get('meta', '{}')))


def write_safetensors(state_dict: Mapping[str, Tensor], meta: Mapping[str, Any], filename: str) -> None:
    """Write tensors and a record; the same content gives the same bytes.

    Args:
        state_dict: The tensors, contiguous, on the CPU and without shared memory; torch's versions of modules
            (``_metadata``) are written too.
        meta: Record that is written as JSON: the keys of dicts become strings, tuples become lists.
        filename: File to write.

    Raises:
        OSError: If the file cannot be written.
    """
    # Other libraries read the format, load hooks of modules the versions.
    records = {'meta': meta, 'versions': getattr(state_dict, '_metadata', {})}
    metadata = {name: json.dumps(record, sort_keys=True) for name, record in records.items() if record}
    header, data = _sorted_header(save(dict(state_dict), {'format': 'pt'} | metadata))
    with open(filename, 'wb') as file:
        file.write(struct.pack('<Q', len(header)) + header)
        file.write(data)


def _sorted_header(content: bytes) -> tuple[bytes, memoryview]:
    """Return header and data of a file, with the metadata sorted; the package writes it in random order."""
    (length,) = struct.unpack_from('<Q', content)
    header = json.loads(content[8 : 8 + length])
    header['__metadata__'] = dict(sorted(header['__metadata__'].items()))
    text = json.dumps(header, separators=(',', ':'), ensure_ascii=False).encode()
    return text.ljust(-(-len(text) // 8) * 8), memoryview(content)[8 + length :]


def _decoded(text: str) -> dict[str, Any]:
    """Return a record that :func:`write_safetensors` wrote, an empty dict for any other text."""
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}
