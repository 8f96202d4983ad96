"""CelebAMask-HQ as prepared by ``tools/dataset_tools/prepare_celebamask_hq.py``, with and without its labels."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.dataset import BaseDataset
from mmseg.datasets import BaseSegDataset

from reprefine.engine.errors import UserError
from reprefine.engine.files import read_text
from reprefine.registry import DATASETS

from .classes import CLASSES, PALETTE, PARTS, left_right_labels
from .prepare.convert import LABELS
from .prepare.raw import IMAGES

CLASSES_OF = {'ignore': PARTS, 'class': CLASSES}
SPLITS = ('train', 'val', 'test', 'all')


@DATASETS.register_module()
class CelebAMaskHQ(BaseSegDataset):
    """Faces with label maps of their parts.

    Args:
        ann_file: File with the ids of a split.
        background: ``ignore``: 18 classes, background pixels have the ignored label 255. ``class``: 19 classes, the
            background first. Results of the two are not comparable.
        metainfo: As in mmseg; ``classes`` may be a subset of the classes.
        **kwargs: Other arguments of mmseg's ``BaseSegDataset``.

    Raises:
        UserError: ``background`` is unknown, the dataset is not completely prepared, or its label maps have other
            classes.
    """

    METAINFO = dict(classes=CLASSES, palette=PALETTE)

    def __init__(
        self, ann_file: str, background: str = 'ignore', metainfo: Mapping[str, Any] | None = None, **kwargs: Any
    ):
        if background not in CLASSES_OF:
            raise UserError(f'CelebAMaskHQ: background is {background!r}; choose from {", ".join(CLASSES_OF)}')
        metainfo = {'classes': CLASSES_OF[background], **(metainfo or {})}
        kwargs.setdefault('data_prefix', dict(img_path=IMAGES, seg_map_path=LABELS))
        super().__init__(ann_file, metainfo=metainfo, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Return the samples of the split, in the order of its file."""
        self._require_prepared()
        pairs = left_right_labels(self.metainfo['classes'])
        return [{**sample, 'left_right_labels': pairs} for sample in super().load_data_list()]

    def _require_prepared(self) -> None:
        remedy = f'run tools/dataset_tools/prepare_celebamask_hq.py {self.data_root}'
        images, masks = Path(self.data_prefix['img_path']), Path(self.data_prefix['seg_map_path'])
        class_list = masks / 'classes.txt'
        if missing := [str(path) for path in (images, Path(self.ann_file), class_list) if not path.exists()]:
            raise UserError(f'CelebAMask-HQ is not prepared, {", ".join(missing)} missing: {remedy}')
        if tuple(read_text(class_list).split()) != CLASSES:
            raise UserError(f'{class_list} names other classes or another order: move {masks} away and {remedy}')
        faces = read_text(self.ann_file).split()
        for folder, suffix in ((images, self.img_suffix), (masks, self.seg_map_suffix)):
            present = set(os.listdir(folder))
            if absent := [face + suffix for face in faces if face + suffix not in present]:
                raise UserError(
                    f'{folder} lacks {len(absent):,} of {len(faces):,} files, such as {absent[0]}; {remedy}'
                )


@DATASETS.register_module()
class CelebAHQImages(BaseDataset):
    """Unlabelled faces of CelebAMask-HQ, for self-supervised learning.

    Args:
        data_root: Folder of the dataset.
        split: ``train``, ``val`` or ``test`` as prepared by ``tools/dataset_tools/prepare_celebamask_hq.py``; ``all``
            includes the test images.
        **kwargs: Other arguments of mmengine's ``BaseDataset``.

    Raises:
        UserError: If the split is unknown, or images or the file of the split are missing.
    """

    def __init__(self, data_root: str, split: str = 'train', **kwargs: Any):
        if split not in SPLITS:
            raise UserError(f'CelebAHQImages: unknown split {split!r}; choose from {", ".join(SPLITS)}')
        self.split = split
        super().__init__(data_root=data_root, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Return the path of every image, ordered by id for ``all``, else in the order of the file."""
        root = Path(self.data_root)
        present = {path.stem: path for path in (root / IMAGES).glob('*.jpg')}
        if not present:
            raise UserError(f'{root / IMAGES} has no images: unpack CelebAMask-HQ there')
        ids = sorted(present, key=int) if self.split == 'all' else self._read_ids(root)
        if absent := [face for face in ids if face not in present]:
            raise UserError(f'{root / IMAGES} lacks {len(absent):,} of {len(ids):,} images, such as {absent[0]}.jpg')
        return [dict(img_path=str(present[face])) for face in ids]

    def _read_ids(self, root: Path) -> list[str]:
        file = root / f'{self.split}_celebahqmask.txt'
        if not file.is_file():
            raise UserError(f'{file} is missing: run tools/dataset_tools/prepare_celebamask_hq.py {root}')
        return read_text(file).split()
