"""Scenes of real digits with their annotations, drawn by ``tools/dataset_tools/make_ade20k_scenes.py``."""

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.config import Config
from runner import ROOT, config_file
from torch import Tensor

from reprefine.engine.data_checks.images import read_image

TOOL = ROOT / 'tools/dataset_tools/make_ade20k_scenes.py'
IGNORED = 255


@cache
def probe_recipe() -> Config:
    """Return the recipe of the linear probe, without its base of mmseg, which the environment of the demo lacks."""
    text = config_file('_base_/recipes/linear_120_ade20k-64px').read_text()
    return Config.fromstring(re.sub('^_base_ = .*$', '', text, flags=re.MULTILINE), '.py')


def class_names() -> tuple[str, ...]:
    """Return the names of the classes of the scenes, in the order of the recipe of the linear probe."""
    return (*probe_recipe().stuff, *probe_recipe().things)


def draw_scenes(folder: Path, train: int, test: int, seed: int) -> None:
    """Write scenes unless the folder exists. The drawing is deterministic.

    Args:
        folder: Folder to write.
        train: Number of training scenes.
        test: Number of test scenes, which are in ``validation`` as in ADE20K.
        seed: Seed of all content.
    """
    if folder.is_dir():
        return
    partial = folder.with_name(f'{folder.name}.partial')
    shutil.rmtree(partial, ignore_errors=True)
    words = ['--train', train, '--val', test, '--seed', seed, '--out', partial]
    subprocess.run([sys.executable, str(TOOL), *map(str, words)], check=True, stdout=subprocess.DEVNULL)
    partial.rename(folder)


@dataclass(frozen=True)
class Scenes:
    """Scenes of one split.

    Attributes:
        images: RGB ``[H, W, 3]``, 8 bit, of different sizes.
        labels: Indices of the classes ``[H, W]``, int64, and 255 for anything else.
    """

    images: list[np.ndarray]
    labels: list[Tensor]

    def small_labels(self, size: int = 64) -> Tensor:
        """Return the labels resized to ``size`` pixels by nearest neighbour, ``[N, size, size]``."""
        bytes8 = [labels.byte().numpy() for labels in self.labels]
        resized = [cv2.resize(labels, (size, size), interpolation=cv2.INTER_NEAREST_EXACT) for labels in bytes8]
        return torch.from_numpy(np.stack(resized)).long()


def read_scenes(folder: Path, split: str, count: int | None = None) -> Scenes:
    """Read the first scenes of a split.

    Args:
        folder: Folder of :func:`draw_scenes`.
        split: ``'training'`` or ``'validation'``.
        count: Number of scenes; default all.
    """
    rows = [line.split('\t') for line in (folder / 'objectInfo150.txt').read_text().splitlines()[1:]]
    category = {name: int(index) for index, *_, name in rows}
    table = np.full(256, IGNORED)
    for number, name in enumerate(class_names()):
        table[category[name]] = number
    files = sorted((folder / 'images' / split).glob('*.jpg'))[:count]
    annotations = [folder / 'annotations' / split / f'{file.stem}.png' for file in files]
    labels = [torch.from_numpy(table[read_image(file)[..., 0]]) for file in annotations]
    return Scenes([read_image(file) for file in files], labels)
