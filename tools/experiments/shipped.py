"""Small checkpoints that the tour starts from. Shipped with the repository, which trained them.

Run as a tool, the module converts a checkpoint and adds it to the list, with its checksum and the command that made it.
"""

import argparse
import hashlib
import json
from pathlib import Path

from records import commit
from torch import Tensor

from reprefine.engine.checkpoints.checkpoint import read_checkpoint
from reprefine.engine.checkpoints.safetensor_files import read_safetensors, write_safetensors
from reprefine.engine.cli.tool import run_as_tool
from reprefine.engine.errors import UserError

EXAMPLE = """example:
  python tools/experiments/shipped.py work_dirs/dvt/demo/mae_vit-p4_ade20k-64px/iter_4000.pth dvt_vit --half \\
      --command 'python tools/train.py configs/dvt/demo/mae_vit-p4_ade20k-64px.py'
"""
FOLDER = Path(__file__).resolve().parent / 'checkpoints'
LIST = FOLDER / 'checkpoints.json'
MAX_BYTES = 4_000_000


def shipped_file(name: str) -> Path:
    """Return the file of a shipped checkpoint, after checking its checksum.

    Raises:
        UserError: If it is missing, or is not the file that was shipped.
    """
    file = FOLDER / f'{name}.safetensors'
    if not file.is_file():
        raise UserError(f'{file} is missing: get it with git checkout -- {FOLDER}')
    if checksum(file) != json.loads(LIST.read_text())[name]['sha256']:
        raise UserError(f'{file} is not the shipped checkpoint: its SHA-256 differs from {LIST.name}')
    return file


def shipped_weights(name: str) -> dict[str, Tensor]:
    """Return the state dict of a shipped checkpoint, in float32.

    Raises:
        UserError: See :func:`shipped_file`.
    """
    state_dict = read_safetensors(str(shipped_file(name)))['state_dict']
    return {key: value.float() if value.is_floating_point() else value for key, value in state_dict.items()}


def checksum(file: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def ship(state_dict: dict[str, Tensor], name: str, command: str, half: bool = False) -> Path:
    """Write weights as a shipped checkpoint.

    Args:
        state_dict: The weights.
        name: Name of the file without suffix.
        command: Command that made the weights.
        half: Store floating-point tensors in float16.

    Raises:
        UserError: If the file has more than ``MAX_BYTES`` bytes.
    """
    code = commit()  # before the file is written, which would count as a change
    tensors = {
        key: (value.half() if half and value.is_floating_point() else value).contiguous().clone()
        for key, value in state_dict.items()
    }
    file = FOLDER / f'{name}.safetensors'
    write_safetensors(tensors, {}, str(file))
    if (size := file.stat().st_size) > MAX_BYTES:
        file.unlink()
        raise UserError(f'{name}: {size} bytes are more than the {MAX_BYTES} that a shipped checkpoint may have')
    entries = json.loads(LIST.read_text()) if LIST.is_file() else {}
    entries[name] = dict(sha256=checksum(file), bytes=size, command=command, commit=code)
    LIST.write_text(f'{json.dumps(dict(sorted(entries.items())), indent=1)}\n')
    return file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the tool."""
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('name', help='name of the shipped checkpoint, without suffix')
    parser.add_argument('--command', required=True, help='command that made the checkpoint')
    parser.add_argument('--half', action='store_true', help='store the weights in float16')
    parser.add_argument('--prefix', default='', help='keep only keys that start with this, and remove it')


def main(args: argparse.Namespace) -> None:
    """Convert a checkpoint and add it to the list."""
    content = read_checkpoint(args.checkpoint)
    state_dict = content.get('state_dict', content)
    kept = {key.removeprefix(args.prefix): value for key, value in state_dict.items() if key.startswith(args.prefix)}
    print(ship(kept, args.name, args.command, args.half))


if __name__ == '__main__':
    run_as_tool(main, add_arguments, __doc__, EXAMPLE)
