"""COCO restricted to the images of a list, such as the 20,000 on which object discovery is evaluated."""

from pathlib import Path
from typing import Any

from mmdet.datasets import CocoDataset

from reprefine.engine.errors import UserError
from reprefine.engine.files import read_text
from reprefine.registry import DATASETS


def read_image_ids(file: Path) -> set[int]:
    """Return the numbers of the images of a list.

    Args:
        file: Text file with one image a line, by any of its names: ``COCO_train2014_000000000009.jpg``,
            ``train2017/000000000009.jpg`` or ``9``.

    Raises:
        UserError: If the file is missing or empty, or a line names no image.
    """
    if not file.is_file():
        raise UserError(f'list {file} does not exist; coco_20k_filenames.txt comes with the released code of LOST')
    lines = [line.strip() for line in read_text(file).splitlines() if line.strip()]
    numbers = [Path(line).stem.rpartition('_')[2] for line in lines]
    for line, number in zip(lines, numbers, strict=True):
        if not number.isdecimal():
            raise UserError(f'{file}: {line!r} does not end in the number of an image of COCO')
    if not numbers:
        raise UserError(f'list {file} is empty')
    return set(map(int, numbers))


@DATASETS.register_module()
class CocoImageList(CocoDataset):
    """mmdet's ``CocoDataset`` with the images of a list only.

    Images have the same number in every year of COCO, and those of train2014 are all in train2017.

    Args:
        image_list: The list, relative to ``data_root``; see :func:`read_image_ids`.
        **kwargs: Arguments of ``CocoDataset``.
    """

    def __init__(self, image_list: str, **kwargs: Any):
        self.image_list = image_list
        super().__init__(**kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        """Return the entries of the images of the list.

        Raises:
            UserError: If the annotations lack an image of the list.
        """
        file = Path(self.data_root or '', self.image_list)
        wanted = read_image_ids(file)
        entries = [entry for entry in super().load_data_list() if entry['img_id'] in wanted]
        if missing := wanted - {entry['img_id'] for entry in entries}:
            raise UserError(f'{self.ann_file} lacks {len(missing)} of the images of {file}, such as {min(missing)}')
        return entries
