"""Person re-identification datasets in the file layout of their releases."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.logging import print_log

from reprefine.engine.errors import UserError
from reprefine.registry import DATASETS

from .base import IdentityDataset, ReIDDataset, summarize
from .parsing import Photo, missing_files, parse_folder, parse_list


class _MarketLayout(ReIDDataset):
    """Dataset with one folder per role; file names contain identity and camera."""

    FOLDERS = dict(train='bounding_box_train', query='query', gallery='bounding_box_test')
    NAME: re.Pattern[str]

    def find_photos(self, role: str) -> list[Photo]:
        """Parse the folder of the role."""
        folder = Path(self.data_root, self.FOLDERS[role])
        photos = parse_folder(folder, self.NAME)
        if not photos:
            raise UserError(f'no images in {folder}, expected those of {role}{self._remedy()}')
        return photos

    def _remedy(self) -> str:
        return ''


@DATASETS.register_module()
class Market1501(_MarketLayout):
    """Market-1501: ``{bounding_box_train,query,bounding_box_test}/0002_c1s1_000451_03.jpg``.

    The distractors of the gallery (identity 0) match no query.
    """

    NAME = re.compile(r'(?P<pid>-1|\d{4})_c(?P<camera>[1-6])s\d+_\d+_\d+\.')


@DATASETS.register_module()
class DukeMTMC(_MarketLayout):
    """DukeMTMC-reID: ``{bounding_box_train,query,bounding_box_test}/0005_c2_f0046985.jpg``."""

    NAME = re.compile(r'(?P<pid>\d{4})_c(?P<camera>[1-8])_f\d+\.')


@DATASETS.register_module()
class CUHK03(_MarketLayout):
    """CUHK03 with the new protocol, as written by ``tools/dataset_tools/prepare_cuhk03.py``.

    ``{labeled,detected}/{bounding_box_train,query,bounding_box_test}/0001_c1_1.png``

    Args:
        data_root: Folder that holds ``labeled`` and ``detected``.
        split: ``train`` or ``test``.
        boxes: ``labeled`` (annotated boxes) or ``detected``.
        **kwargs: Arguments of mmengine's ``BaseDataset``.
    """

    NAME = re.compile(r'(?P<pid>\d{4})_c(?P<camera>[12])_\d+\.')

    def __init__(self, data_root: str, split: str = 'train', boxes: str = 'labeled', **kwargs: Any):
        if boxes not in ('labeled', 'detected'):
            raise UserError(f'CUHK03: unknown boxes {boxes!r}; choose from labeled, detected')
        self.boxes = boxes
        super().__init__(str(Path(data_root, boxes)), split, **kwargs)

    def _remedy(self) -> str:
        return f' (write them with python tools/dataset_tools/prepare_cuhk03.py {Path(self.data_root).parent})'


@DATASETS.register_module()
class MSMT17(ReIDDataset):
    """MSMT17: lists of ``0000/0000_000_01_0303morning_0015_0.jpg 0``, relative to a training or test folder.

    The folders are ``train`` and ``test`` (first release), or ``mask_train_v2`` and ``mask_test_v2`` (second release).

    Args:
        data_root: Folder of the lists.
        split: ``train`` or ``test``.
        use_val: Whether training includes the images of ``list_val.txt``, as is usual.
        **kwargs: Arguments of mmengine's ``BaseDataset``.
    """

    NAME = re.compile(r'(?P<pid>\d{4})_\d{3}_(?P<camera>\d{2})_')

    def __init__(self, data_root: str, split: str = 'train', use_val: bool = True, **kwargs: Any):
        self.use_val = use_val
        super().__init__(data_root, split, **kwargs)

    def find_photos(self, role: str) -> list[Photo]:
        """Read the lists of the role and check that their images exist."""
        root = Path(self.data_root)
        candidates = [root / name for name in (self.split, f'mask_{self.split}_v2')]
        folder = next((candidate for candidate in candidates if candidate.is_dir()), candidates[0])
        names = ['train', 'val'] if role == 'train' and self.use_val else [role]
        lists = [root / f'list_{name}.txt' for name in names]
        missing = [str(file) for file in lists if not file.is_file()]
        if missing or not folder.is_dir():
            folders = [] if folder.is_dir() else [' or '.join(map(str, candidates))]
            raise UserError(f'missing {", ".join([*missing, *folders])}')
        photos = [photo for file in lists for photo in parse_list(file, folder, self.NAME)]
        absent = missing_files(photos, folder)
        if absent or not photos:
            first = f', such as {absent[0]}' if absent else ''
            raise UserError(f'{len(absent):,} of {len(photos):,} {role} images are missing{first}')
        return photos


@DATASETS.register_module()
class MergedReID(IdentityDataset):
    """Concatenation of training sets whose identities and cameras are distinct.

    Args:
        datasets: Configs of the datasets; ``split`` is set to ``train``.
        **kwargs: Arguments of mmengine's ``BaseDataset``, such as ``pipeline``.
    """

    def __init__(self, datasets: Sequence[dict], **kwargs: Any):
        self.dataset_cfgs = datasets
        super().__init__(**kwargs)

    def load_data_list(self) -> list[dict]:
        """Return the samples of all datasets, in the order of the configs."""
        merged: list[dict] = []
        offsets = dict(gt_label=0, pid=0, camera=0)
        for cfg in self.dataset_cfgs:
            samples = DATASETS.build(dict(cfg, split='train', serialize_data=False)).data_list
            merged += [sample | {key: sample[key] + offset for key, offset in offsets.items()} for sample in samples]
            for key in offsets:
                offsets[key] += max(sample[key] for sample in samples) + 1
        self.num_labels = offsets['gt_label']
        print_log(f'MergedReID: {summarize(merged)}', 'current')
        return merged
