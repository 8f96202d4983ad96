"""The fixture that makes toy data."""

from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock
from toy_data import SETS, make_toy_data


@pytest.fixture(scope='session')
def toy_folder(tmp_path_factory, worker_id) -> Callable[[list[str]], Path]:
    """Give the toy counterpart of data roots such as ``data/coco``; each set is made when first asked for, once."""
    base = tmp_path_factory.getbasetemp()
    out = (base if worker_id == 'master' else base.parent) / 'toy'
    lock = FileLock(f'{out}.lock')

    def folder(data_roots: list[str]) -> Path:
        with lock:
            return made(data_roots)

    def made(data_roots: list[str]) -> Path:
        # Any folder of pictures will do where a config names none of its own.
        relative = [Path(root).relative_to('data') for root in data_roots if root != 'data/images']
        if not relative:
            return made(['data/celebamask-hq']) / 'CelebA-HQ-img'
        make_toy_data(
            out, only=[name for name, toy in SETS.items() if any(path.is_relative_to(toy.folder) for path in relative)]
        )
        return prepared(out / relative[0]) if len(relative) == 1 else out

    return folder


def prepared(root: Path) -> Path:
    """Convert what the benchmark's own configs read only after conversion."""
    from tests.helpers.run_tool import run_tool

    if root.name == 'inaturalist2018' and not (root / 'meta').is_dir():
        assert run_tool('dataset_tools/prepare_inaturalist.py', root) == 0
    if root.name == 'celebamask-hq' and not (root / 'mask').is_dir():
        assert run_tool('dataset_tools/prepare_celebamask_hq.py', root, '--allow-partial') == 0
    return root
