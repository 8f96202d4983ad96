"""Bad checkpoints: how each is made from a valid one, and the expected error line; None for a successful run."""

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

UNREADABLE = 'cannot be read, it is truncated or no checkpoint|is damaged|checksum|central directory'
FOREIGN = 'belongs to another model: .* of the model loaded'


class BadFile(NamedTuple):
    """A checkpoint of a kind.

    Attributes:
        name: What is bad.
        ending: Pattern of the error line, or None if it can be used.
        make: Writes it, given a valid checkpoint and the file to write.
    """

    name: str
    ending: str | None
    make: Callable[[Path, Path], Any]


def cut(size: Callable[[int], int]) -> Callable[[Path, Path], Any]:
    """Keep the first bytes, their number a function of the length."""
    return lambda valid, bad: bad.write_bytes(valid.read_bytes()[: size(valid.stat().st_size)])


def flip(find: Callable[[Path], int]) -> Callable[[Path, Path], Any]:
    """Flip the lowest bit of one byte, whose position depends on the file."""

    def make(valid: Path, bad: Path) -> None:
        content = bytearray(valid.read_bytes())
        content[find(valid)] ^= 1
        bad.write_bytes(content)

    return make


def inside(member: str, part: float) -> Callable[[Path], int]:
    """Find a byte of the archive's member whose name ends in ``member``, at a part of its length."""

    def find(path: Path) -> int:
        with zipfile.ZipFile(path) as archive:
            info = next(info for info in archive.infolist() if info.filename.endswith(member))
        content = path.read_bytes()
        start = info.header_offset
        start += 30 + sum(int.from_bytes(content[start + at : start + at + 2], 'little') for at in (26, 28))
        return start + int(part * (info.file_size - 1))

    return find


def edit(change: Callable[[dict], Any]) -> Callable[[Path, Path], Any]:
    """Change the content and save it as torch does."""

    def make(valid: Path, bad: Path) -> None:
        content = torch.load(valid, weights_only=True)
        torch.save(content if (new := change(content)) is None else new, bad)

    return make


def weights(change: Callable[[str, torch.Tensor], Any]) -> Callable[[Path, Path], Any]:
    """Change every weight."""
    return edit(lambda c: c.update(state_dict={k: change(k, v) for k, v in c['state_dict'].items()}))


def replaced_by(content: bytes) -> Callable[[Path, Path], Any]:
    """Write something else."""
    return lambda valid, bad: bad.write_bytes(content)


class _Runs:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple:
        return os.system, ('true',)


def _legacy(valid: Path, bad: Path) -> None:
    torch.save(torch.load(valid, weights_only=True), bad, _use_new_zipfile_serialization=False)


def _png() -> bytes:
    import cv2
    import numpy as np

    return cv2.imencode('.png', np.zeros((4, 4, 3), np.uint8))[1].tobytes()


def _zip() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, 'w') as archive:
        archive.writestr('a.txt', 'a')
    return stream.getvalue()


def _rename(prefix: str) -> Callable[[Path, Path], Any]:
    return edit(lambda c: c.update(state_dict={prefix + key: value for key, value in c['state_dict'].items()}))


def _wider_head(key: str, value: torch.Tensor) -> torch.Tensor:
    return torch.cat([value, value]) if key.startswith('head.') else value


def _without_token(content: dict) -> None:
    del content['state_dict']['backbone.cls_token']


def _strided(key: str, value: torch.Tensor) -> torch.Tensor:
    return value.t().contiguous().t() if value.dim() == 2 else value


def _set_nan(key: str, value: torch.Tensor) -> torch.Tensor:
    return torch.full_like(value, float('nan')) if value.is_floating_point() else value


CUTS = [
    BadFile(f'cut to {name}', UNREADABLE, cut(size))
    for name, size in {
        'nothing': lambda n: 0,
        '1 byte': lambda n: 1,
        'its magic number': lambda n: 4,
        'its first header': lambda n: 30,
        'a hundredth': lambda n: n // 100,
        'a quarter': lambda n: n // 4,
        'a half': lambda n: n // 2,
        'three quarters': lambda n: n * 3 // 4,
        'all but a kilobyte': lambda n: n - 1024,
        'all but the end record': lambda n: n - 22,
        'all but a byte': lambda n: n - 1,
    }.items()
]
FLIPS = [
    BadFile('bit flipped in the magic number', UNREADABLE, flip(lambda path: 0)),
    BadFile('bit flipped in the pickle, begin', UNREADABLE, flip(inside('data.pkl', 0))),
    BadFile('bit flipped in the pickle, quarter', UNREADABLE, flip(inside('data.pkl', 0.25))),
    BadFile('bit flipped in the pickle, middle', UNREADABLE, flip(inside('data.pkl', 0.5))),
    BadFile('bit flipped in the pickle, end', UNREADABLE, flip(inside('data.pkl', 1))),
    BadFile('bit flipped in a tensor, begin', UNREADABLE, flip(inside('data/0', 0))),
    BadFile('bit flipped in a tensor, middle', UNREADABLE, flip(inside('data/1', 0.5))),
    BadFile('bit flipped in a tensor, end', UNREADABLE, flip(inside('data/5', 1))),
    BadFile('bit flipped in the byte order', UNREADABLE, flip(inside('byteorder', 0))),
    BadFile('bit flipped in the version', UNREADABLE, flip(inside('version', 0))),
    BadFile(
        'bit flipped in the central directory',
        UNREADABLE,
        flip(lambda path: path.read_bytes().rindex(b'PK\x01\x02')),
    ),
    BadFile(
        'bit flipped in the end record',
        UNREADABLE,
        flip(lambda path: path.read_bytes().rindex(b'PK\x05\x06')),
    ),
]
OTHERS = [
    BadFile('text', UNREADABLE, replaced_by(b'weights\n')),
    BadFile('json', UNREADABLE, replaced_by(json.dumps(dict(state_dict={})).encode())),
    BadFile('an image', UNREADABLE, replaced_by(_png())),
    BadFile('another archive', UNREADABLE, replaced_by(_zip())),
    BadFile('zeros', UNREADABLE, replaced_by(bytes(5000))),
    BadFile('a plain pickle', UNREADABLE, replaced_by(pickle.dumps(dict(state_dict={})))),
    BadFile('a pickle that runs code', 'may run code|cannot be read', replaced_by(pickle.dumps(_Runs()))),
    BadFile('an object that runs code', 'whose loading may run code', edit(lambda c: c.update(a=_Runs()))),
    BadFile('a folder', 'does not exist', lambda valid, bad: bad.mkdir()),
    BadFile('a link that leads nowhere', 'does not exist', lambda valid, bad: bad.symlink_to('gone')),
    BadFile('missing', 'does not exist', lambda valid, bad: None),
    BadFile('a tensor', 'holds a Tensor instead', edit(lambda c: torch.zeros(3))),
    BadFile('a list', 'holds a list instead', edit(lambda c: [1, 2])),
    BadFile('a number', 'holds a int instead', edit(lambda c: 3)),
    BadFile('an empty dict', FOREIGN, edit(lambda c: {})),
    BadFile('no weights', FOREIGN, edit(lambda c: c.update(state_dict={}))),
    BadFile('weights None', 'error: checkpoint ', edit(lambda c: c.update(state_dict=None))),
    BadFile('weights in a list', 'error: checkpoint ', edit(lambda c: c.update(state_dict=[1]))),
    BadFile(
        'weights under numbers',
        'error: checkpoint ',
        edit(lambda c: c.update(state_dict={1: torch.ones(2)})),
    ),
    BadFile('weights that are no tensors', FOREIGN, weights(lambda key, value: value.tolist())),
    BadFile('weights of another model', FOREIGN, edit(lambda c: c.update(state_dict=nn.Linear(3, 4).state_dict()))),
    BadFile('weights of another number of classes', r'2 size mismatch \(head', weights(_wider_head)),
    BadFile('weights below a prefix', FOREIGN, _rename('encoder.')),
    BadFile('weights of other shapes', 'another model|IndexError', weights(lambda key, value: value.flatten()[:-1])),
    BadFile('one weight missing', r'1 missing \(backbone', edit(_without_token)),
    BadFile('weights without elements', 'another model|IndexError', weights(lambda key, value: value.flatten()[:0])),
    BadFile('weights complex', 'error: checkpoint ', weights(lambda key, value: value.to(torch.complex64))),
    BadFile('weights not finite', 'finite|NaN', weights(_set_nan)),
    BadFile('weights infinite', 'finite', weights(lambda key, value: value * float('inf'))),
    BadFile('weights on no device', 'error: checkpoint ', weights(lambda key, value: value.to('meta'))),
    BadFile('weights sparse', 'error: checkpoint ', weights(lambda key, value: value.to_sparse())),
    BadFile('one weight too many', None, edit(lambda c: c['state_dict'].update(more=torch.ones(2)))),
    BadFile('weights of a wrapper', None, _rename('module.')),
    BadFile('weights in double precision', None, weights(lambda key, value: value.double())),
    BadFile('weights in half precision', None, weights(lambda key, value: value.half())),
    BadFile(
        'weights not contiguous',
        None,
        weights(_strided),
    ),
    BadFile('the old format of torch', None, _legacy),
    BadFile('weights alone', None, edit(lambda c: dict(c['state_dict']))),
]
RESUMED = [
    BadFile('no optimiser', 'holds no training state', edit(lambda c: c.pop('optimizer') and None)),
    BadFile('no meta', 'holds no training state', edit(lambda c: c.pop('meta') and None)),
    BadFile('no message hub', 'holds no training state', edit(lambda c: c.pop('message_hub') and None)),
    BadFile('weights alone, resumed', 'holds no training state', edit(lambda c: dict(c['state_dict']))),
    BadFile('meta a list', 'TypeError|AttributeError|error: checkpoint ', edit(lambda c: c.update(meta=[]))),
    BadFile('meta empty', 'KeyError|error: checkpoint ', edit(lambda c: c.update(meta={}))),
    BadFile('epoch a word', 'ValueError|TypeError|error: checkpoint ', edit(lambda c: c['meta'].update(epoch='one'))),
    BadFile('optimiser None', 'Error|error: checkpoint ', edit(lambda c: c.update(optimizer=None))),
    BadFile('optimiser empty', 'Error|error: checkpoint ', edit(lambda c: c.update(optimizer={}))),
    BadFile(
        'optimiser of other groups',
        'ValueError|error: checkpoint ',
        edit(lambda c: c['optimizer'].update(param_groups=[])),
    ),
    BadFile('message hub a list', 'Error|error: checkpoint ', edit(lambda c: c.update(message_hub=[]))),
    BadFile('message hub empty', 'Error|error: checkpoint ', edit(lambda c: c.update(message_hub={}))),
    BadFile('schedulers a number', 'Error|error: checkpoint ', edit(lambda c: c.update(param_schedulers=3))),
    BadFile('one weight missing, resumed', FOREIGN, edit(_without_token)),
    *(case._replace(name=f'{case.name}, resumed') for case in (CUTS[0], CUTS[5], CUTS[10], OTHERS[0], OTHERS[8])),
    *(case._replace(name=f'{case.name}, resumed') for case in (FLIPS[3], FLIPS[6], OTHERS[10], OTHERS[21])),
]
STARTED = [
    case._replace(name=f'{case.name}, as load_from')
    for case in (CUTS[0], CUTS[6], CUTS[10], *FLIPS[4:7], *OTHERS[:2], OTHERS[7], *OTHERS[9:20], *OTHERS[31:])
]
