"""COCO restricted to the images of a list, such as the 20,000 on which object discovery is evaluated."""

from pathlib import Path
from typing import Any

from mmdet.datasets import CocoDataset

from reprefine.engine.errors import UserError
from reprefine.engine.files import read_text
from reprefine.registry import DATASETS


def read_image_ids(file: Path) -> set[int]:
    """Return the image ids of a list.

    Args:
        file: Text file with one image per line, as one of ``COCO_train2014_000000000009.jpg``,
            ``train2017/000000000009.jpg`` or ``9``.

    Raises:
        UserError: If the file is missing or empty, or a line does not end with an image id.
    """
    if not file.is_file():
        raise UserError(f'list {file} does not exist: copy coco_20k_filenames.txt from the released code of LOST')
    lines = [line.strip() for line in read_text(file).splitlines() if line.strip()]
    ids = [Path(line).stem.rpartition('_')[2] for line in lines]
    for line, image_id in zip(lines, ids, strict=True):
        if not image_id.isdecimal():
            raise UserError(f'{file}: {line!r} does not end with an image id of COCO')
    if not ids:
        raise UserError(f'list {file} is empty: give one image per line')
    return set(map(int, ids))


@DATASETS.register_module()
class CocoImageList(CocoDataset):
    """mmdet's ``CocoDataset`` with the images of a list only.

    Images have the same id in every year of COCO, and train2017 contains train2014.

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
            raise UserError(
                f'{self.ann_file} lacks {len(missing)} images of {file}, such as id {min(missing)}: give matching files'
            )
        return entries
