"""CelebAMask-HQ as prepared by ``tools/dataset_tools/prepare_celebamask_hq.py``."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmseg.datasets import BaseSegDataset

from reprefine.engine.errors import UserError
from reprefine.engine.files import read_text
from reprefine.registry import DATASETS

from .classes import CLASSES, PALETTE, PARTS, left_right_labels
from .prepare import LABELS
from .raw import IMAGES

CLASSES_OF = {'ignore': PARTS, 'class': CLASSES}


@DATASETS.register_module()
class CelebAMaskHQ(BaseSegDataset):
    """Faces with a label for each part.

    Args:
        ann_file: List of the ids of a split.
        background: ``ignore`` has 18 classes and gives background pixels the ignored label 255; ``class`` has 19, the
            background first. Results of the two are not comparable.
        metainfo: As in mmseg; ``classes`` may name some of the classes only.
        **kwargs: Further arguments of mmseg's ``BaseSegDataset``.

    Raises:
        UserError: The data set is not, or only half, prepared, or its label maps have other classes.
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
        """Return the samples of the split, in the order of its list."""
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
