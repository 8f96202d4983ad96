"""The images of CelebA-HQ alone, for learning without labels."""

from pathlib import Path
from typing import Any

from mmengine.dataset import BaseDataset

from reprefine.engine.errors import UserError
from reprefine.engine.files import read_text
from reprefine.registry import DATASETS

from .raw import IMAGES

SPLITS = ('train', 'val', 'test', 'all')


@DATASETS.register_module()
class CelebAHQImages(BaseDataset):
    """Unlabelled faces of CelebAMask-HQ.

    Args:
        data_root: Folder of the data set.
        split: ``train``, ``val`` or ``test`` as prepared by ``tools/dataset_tools/prepare_celebamask_hq.py``; ``all``
            also holds the images that a model is tested on later.
        **kwargs: Further arguments of mmengine's ``BaseDataset``.

    Raises:
        UserError: If the split is unknown, or images or list are missing.
    """

    def __init__(self, data_root: str, split: str = 'train', **kwargs: Any):
        if split not in SPLITS:
            raise UserError(f'CelebAHQImages: unknown split {split!r}; choose from {", ".join(SPLITS)}')
        self.split = split
        super().__init__(data_root=data_root, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Return the path of every image, in the order of its number."""
        root = Path(self.data_root)
        present = {path.stem: path for path in (root / IMAGES).glob('*.jpg')}
        if not present:
            raise UserError(f'{root / IMAGES} holds no images: unpack CelebAMask-HQ there')
        ids = sorted(present, key=int) if self.split == 'all' else self._listed(root)
        if absent := [face for face in ids if face not in present]:
            raise UserError(f'{root / IMAGES} lacks {len(absent):,} of {len(ids):,} images, such as {absent[0]}.jpg')
        return [dict(img_path=str(present[face])) for face in ids]

    def _listed(self, root: Path) -> list[str]:
        file = root / f'{self.split}_celebahqmask.txt'
        if not file.is_file():
            raise UserError(f'{file} is missing: run tools/dataset_tools/prepare_celebamask_hq.py {root}')
        return read_text(file).split()
