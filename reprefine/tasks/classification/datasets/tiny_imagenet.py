"""Tiny-ImageNet, as downloaded or with its validation images in class folders."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmpretrain.datasets import BaseDataset

from reprefine.engine.errors import UserError
from reprefine.engine.files import read_text
from reprefine.registry import DATASETS

EXPECTED = 'expected wnids.txt, train/<wnid>/images/*.JPEG, val/images and val/val_annotations.txt'


def val_wnids(root: Path) -> dict[str, str]:
    """Return the wnid of each validation image by file name, from ``val/val_annotations.txt``."""
    file = root / 'val' / 'val_annotations.txt'
    if not file.is_file():
        raise UserError(f'{file} does not exist; {EXPECTED}')
    return dict(line.split('\t')[:2] for line in read_text(file).splitlines())


@DATASETS.register_module()
class TinyImageNet(BaseDataset):
    """The 200 classes of Tiny-ImageNet: 500 training and 50 validation images of 64x64 pixels each.

    A class's label is the rank of its wnid. The validation images may be in ``val/images`` (as downloaded) or in
    ``val/images/<wnid>`` (as many training codes expect); both give the same samples.

    Args:
        data_root: Folder of the dataset.
        split: ``train`` or ``val``; the labels of ``test`` were never published.
        **kwargs: Other arguments of mmpretrain's ``BaseDataset``.

    Raises:
        UserError: The split is unknown, or files of the dataset are missing.
    """

    def __init__(self, data_root: str, split: str, **kwargs: Any):
        if split not in ('train', 'val'):
            raise UserError(f'TinyImageNet: unknown split {split!r}; choose from train, val (test has no labels)')
        self.split = split
        super().__init__(ann_file='', data_root=data_root, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Return path and label of every image, ordered by label and name."""
        root = Path(self.data_root)
        wnids = sorted(entry.name for entry in (root / 'train').glob('n*') if entry.is_dir())
        if not wnids:
            raise UserError(f'{root}/train holds no class folder; {EXPECTED}')
        self._metainfo.setdefault('classes', tuple(wnids))
        images = self._train_images(root) if self.split == 'train' else self._val_images(root)
        labels = {wnid: label for label, wnid in enumerate(wnids)}
        samples = sorted((labels[wnid], path.name, str(path)) for wnid, path in images)
        if not samples:
            raise UserError(f'{root}/{self.split} holds no image; {EXPECTED}')
        return [{'img_path': path, 'gt_label': label} for label, _, path in samples]

    def _train_images(self, root: Path) -> Iterator[tuple[str, Path]]:
        yield from ((path.parts[-3], path) for path in (root / 'train').glob('n*/images/*.JPEG'))

    def _val_images(self, root: Path) -> Iterator[tuple[str, Path]]:
        sorted_images = [(path.parent.name, path) for path in (root / 'val' / 'images').glob('n*/*.JPEG')]
        if sorted_images:
            yield from sorted_images
            return
        wnids = val_wnids(root)
        yield from ((wnids[path.name], path) for path in (root / 'val' / 'images').glob('*.JPEG'))
