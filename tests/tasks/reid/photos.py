"""Small ReID datasets in the file layout of the releases."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

MARKET = {
    'bounding_box_train': ['0002_c1s1_000451_03.jpg', '0007_c6s2_000776_01.jpg', '0002_c3s1_000551_01.jpg'],
    'query': ['0001_c1s1_001051_00.jpg', '0003_c2s3_000001_00.jpg'],
    'bounding_box_test': [
        '-1_c1s1_000401_03.jpg',
        '0000_c4s1_000151_01.jpg',
        '0001_c5s1_001076_01.jpg',
        '0003_c6s3_000002_02.jpg',
    ],
}
DUKE = {
    'bounding_box_train': ['0005_c2_f0046985.jpg', '0005_c8_f0047105.jpg', '7140_c1_f0000001.jpg'],
    'query': ['0006_c3_f0046985.jpg'],
    'bounding_box_test': ['0006_c7_f0046986.jpg', '0139_c4_f0017012.jpg'],
}
CUHK03 = {
    'labeled/bounding_box_train': ['0001_c1_1.png', '0009_c2_90.png'],
    'labeled/query': ['0003_c1_15.png'],
    'labeled/bounding_box_test': ['0003_c2_1234.png'],
    'detected/bounding_box_train': ['0004_c2_40.png'],
}
MSMT17 = {
    'train': ['0000/0000_000_01_0303morning_0015_0.jpg', '0000/0000_001_15_0303noon_0020_0.jpg'],
    'val': ['0001/0001_000_07_0302morning_0100_1.jpg'],
    'query': ['0000/0000_000_05_0113afternoon_0001_0.jpg'],
    'gallery': ['0000/0000_001_11_0113afternoon_0002_0.jpg', '0001/0001_000_14_0114noon_0003_2.jpg'],
}


def write_image(path: Path, seed: int = 0, size: tuple[int, int] = (64, 32)) -> None:
    """Write an image of random colours, ``size`` being height and width."""
    path.parent.mkdir(parents=True, exist_ok=True)
    blocks = np.random.default_rng(seed).integers(256, size=(4, 2, 3), dtype=np.uint8)
    Image.fromarray(blocks).resize(size[::-1], Image.Resampling.NEAREST).save(path)


def write_folders(root: Path, folders: dict[str, Iterable[str]]) -> str:
    """Write an image for every name and return the root."""
    for folder, names in folders.items():
        for number, name in enumerate(names):
            write_image(root / folder / name, number)
    return str(root)


def write_msmt17(root: Path, folders: tuple[str, str] = ('train', 'test')) -> str:
    """Write lists and images and return the root."""
    for name, paths in MSMT17.items():
        folder = folders[name in ('query', 'gallery')]
        for number, path in enumerate(paths):
            write_image(root / folder / path, number)
        (root / f'list_{name}.txt').write_text(''.join(f'{path} {int(path[:4])}\n' for path in paths))
    return str(root)
