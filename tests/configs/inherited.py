"""Configs of the tree inherited by name, from a folder outside the repository."""

from collections.abc import Iterable
from pathlib import Path

from mmengine.config import Config

from tests.configs.brief import ROOT
from tests.configs.walk import CONFIGS

# What the names of cheap configs hold, the cheapest first.
CHEAP = ('digits', 'mnist5k', '64px', 'cifar10', 'vit-small', 'retinanet', 'r18', 'mit-b0', 'voc12', 'r50')


def one_of_each_folder(*parents: str) -> list[Path]:
    """Return a cheap config of each folder below ``configs/<parent>``."""
    folders: dict[Path, list[Path]] = {}
    for path in CONFIGS:
        if path.relative_to(ROOT / 'configs').parts[0] in parents:
            folders.setdefault(path.parent, []).append(path)
    return [cheapest(configs) for configs in folders.values()]


def cheapest(configs: Iterable[Path]) -> Path:
    """Return the config whose training costs least, by its name."""
    return min(sorted(configs), key=_cost)


def _cost(path: Path) -> int:
    return next((cost for cost, word in enumerate(CHEAP) if word in path.name), len(CHEAP))


def folder_of(path: Path) -> str:
    """Return the folder of a config below ``configs``, for the names of tests."""
    return str(path.relative_to(ROOT / 'configs').parent)


def inherited(path: Path, folder: Path) -> Path:
    """Write a config that inherits ``path`` by name, under its own name below ``folder``; the two must be equal."""
    name = path.relative_to(ROOT / 'configs')
    file = folder / name
    file.parent.mkdir(parents=True)
    file.write_text(f"_base_ = 'reprefine::{name}'\n")
    assert Config.fromfile(file)._cfg_dict == Config.fromfile(path)._cfg_dict
    return file
