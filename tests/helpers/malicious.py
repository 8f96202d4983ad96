"""Checkpoints that would create a folder if anything in them were executed."""

import builtins
import io
import os
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import HistoryBuffer


class Calls:
    """Pickles to a call of ``function``."""

    def __init__(self, function: Callable, *args: Any):
        self.call = function, args

    def __reduce__(self) -> tuple[Callable, tuple]:
        return self.call


def system(folder: Path) -> Calls:
    """Return what pickles to a shell command that creates ``folder``."""
    return Calls(os.system, f'mkdir "{folder}"')


def config_text(folder: Path) -> str:
    """Return a config that creates ``folder`` when it is read."""
    return f'import os\nos.makedirs({str(folder)!r}, exist_ok=True)\n'


def in_part(part: str) -> Callable[[dict, Path], dict]:
    """Return a way to put a shell command below a key of a checkpoint."""
    return lambda content, folder: content | {part: {**content.get(part, {}), 'payload': system(folder)}}


def _getattr(content: dict, folder: Path) -> dict:
    # getattr is a name that mmengine's own checkpoints hold, for the statistics of the logging history
    return content | {'payload': Calls(getattr, OrderedDict, 'fromkeys')}


def _getattr_of_history(content: dict, folder: Path) -> dict:
    return content | {'payload': Calls(getattr, HistoryBuffer, '__init__')}


def _eval(content: dict, folder: Path) -> dict:
    return content | {'payload': Calls(builtins.eval, f'__import__("os").mkdir({str(folder)!r})')}


CONTENTS: dict[str, Callable[[dict, Path], dict]] = {
    'state_dict': in_part('state_dict'),
    'optimizer': in_part('optimizer'),
    'message_hub': in_part('message_hub'),
    'getattr of another class': _getattr,
    'another getattr of the history': _getattr_of_history,
    'eval': _eval,
}
FORMS = ('zip', 'legacy', 'bare pickle', 'hand-made zip')


def write_malicious(file: Path, content: dict, form: str = 'zip') -> str:
    """Write a checkpoint in one of the :data:`FORMS` and return its path."""
    if form in ('zip', 'legacy'):
        torch.save(content, file, _use_new_zipfile_serialization=form == 'zip')
    elif form == 'bare pickle':
        file.write_bytes(pickle.dumps({key: value for key, value in content.items() if key == 'payload'}, protocol=2))
    else:
        _replace_pickle(file, pickle.dumps(content.get('payload'), protocol=2))
    return str(file)


def _replace_pickle(file: Path, code: bytes) -> None:
    """Write a checkpoint of torch in which the pickle is replaced."""
    buffer = io.BytesIO()
    torch.save({'w': torch.ones(2)}, buffer)
    with zipfile.ZipFile(buffer) as source, zipfile.ZipFile(file, 'w') as target:
        for name in source.namelist():
            target.writestr(name, code if name.endswith('data.pkl') else source.read(name))


def assert_refused(code: int, error: str) -> None:
    """Check exit code and standard error of a tool that was given a malicious ``a.pth``."""
    assert code == 1
    lines = error.strip().splitlines()
    assert [line for line in lines if 'error: ' in line] == lines[-1:]
    assert 'a.pth refused: it holds objects whose loading may run code' in lines[-1]
