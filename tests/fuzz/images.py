"""Bad images, masks and annotations over the scenes of tests/helpers/tiny_hosts.py, and how training ends."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image

UNREADABLE = 'image .*1.png (cannot be read|does not exist)'
ONE_VALUE = 'train_dataloader.batch_size: BatchNorm cannot train'
IMAGES = {
    'mmpretrain': 'train/class1/1.png',
    'mmdet': 'images/1.png',
    'mmseg': 'images/1.png',
    'mmpose': 'images/1.png',
}
ANNOTATIONS = {'mmdet': 'coco.json', 'mmpose': 'pose.json'}


class BadData(NamedTuple):
    """A dataset with something bad in it.

    Attributes:
        name: What is bad.
        library: The host library that reads it.
        ending: Pattern of the error line, or None if training must end well.
        make: Spoils the dataset in a folder.
        options: Values for ``--cfg-options``.
    """

    name: str
    library: str
    ending: str | None
    make: Callable[[Path], Any]
    options: tuple[str, ...] = ()


def _picture(mode: str, size: tuple[int, int] = (64, 48)) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(pixels).convert(mode)


def _wide(height: int, width: int) -> Callable[[Path], Any]:
    return lambda path: cv2.imwrite(str(path), np.full((height, width, 3), 90, np.uint8))


def _cut(part: float) -> Callable[[Path], Any]:
    return lambda path: path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])


def _flip(part: float) -> Callable[[Path], Any]:
    def make(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[int(part * (len(content) - 1))] ^= 1
        path.write_bytes(content)

    return make


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _link(path: Path) -> None:
    path.unlink()
    path.symlink_to('gone.png')


def _animated(path: Path) -> None:
    _picture('P').save(path, format='GIF', save_all=True, append_images=[_picture('L').convert('P')])


def _pixels16(path: Path) -> None:
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 65535, (48, 64, 3), np.uint16))


FILES = {
    'empty file': (UNREADABLE, lambda path: path.write_bytes(b'')),
    'one byte': (UNREADABLE, lambda path: path.write_bytes(b'a')),
    'text': (UNREADABLE, lambda path: path.write_text('no image')),
    'zeros': (UNREADABLE, lambda path: path.write_bytes(bytes(3000))),
    'cut in the header': (UNREADABLE, _cut(0.05)),
    'bit flipped in the magic number': (UNREADABLE, _flip(0)),
    'missing': (UNREADABLE, os.unlink),
    'a folder': (UNREADABLE, _folder),
    'a link that leads nowhere': (UNREADABLE, _link),
    'one pixel': (None, _wide(1, 1)),
    'one row': (None, _wide(1, 64)),
    'one column': (None, _wide(64, 1)),
    'long strip': (None, _wide(2, 3000)),
    'grey': (None, lambda path: _picture('L').save(path)),
    'black and white': (None, lambda path: _picture('1').save(path)),
    'with transparency': (None, lambda path: _picture('RGBA').save(path)),
    'grey with transparency': (None, lambda path: _picture('LA').save(path)),
    'palette': (None, lambda path: _picture('P').save(path)),
    '16 bits': (None, _pixels16),
    'JPEG of CMYK under another suffix': (None, lambda path: _picture('CMYK').save(path, format='JPEG')),
    'animated GIF under another suffix': (None, _animated),
    'BMP under another suffix': (None, lambda path: _picture('RGB').save(path, format='BMP')),
    'TIFF of floats': ('1.png cannot be loaded by LoadImage', lambda path: _picture('F').save(path, format='TIFF')),
}
# Data sets that list folders.
LISTING = ('mmpretrain', 'mmseg')
# Of the others it matters only that the loader of each library meets one of each kind.
ELSEWHERE = ('empty file', 'text', 'cut in the header', 'missing', 'one pixel', 'grey', 'with transparency', '16 bits')


def _of(library: str, name: str) -> BadData:
    ending, make = FILES[name]
    if library == 'mmseg' and name == 'one pixel':
        ending = 'Error'  # image and mask differ in size
    if library in LISTING and name in ('missing', 'a folder', 'a link that leads nowhere'):
        ending = None  # what is not in the folder is not in the dataset
    return BadData(f'{library}: {name}', library, ending, lambda folder: make(folder / IMAGES[library]))


IMAGE_CASES = [_of('mmpretrain', name) for name in FILES] + [
    _of(library, name) for library in ('mmdet', 'mmseg', 'mmpose') for name in ELSEWHERE
]


def edited(library: str, change: Callable[[dict], Any]) -> Callable[[Path], None]:
    """Change the annotation file."""

    def make(folder: Path) -> None:
        path = folder / ANNOTATIONS[library]
        content = json.loads(path.read_text())
        new = change(content)
        path.write_text(json.dumps(content if new is None else new))

    return make


def written(library: str, content: str) -> Callable[[Path], Any]:
    """Write something else into the annotation file."""
    return lambda folder: (folder / ANNOTATIONS[library]).write_text(content)


def _all(key: str, value: Any) -> Callable[[dict], None]:
    return lambda content: [annotation.update({key: value}) for annotation in content['annotations']] and None


def _drop(key: str) -> Callable[[dict], None]:
    return lambda content: [annotation.pop(key) for annotation in content['annotations']] and None


def _nameless(content: dict) -> None:
    for image in content['images']:
        image.pop('file_name')


def _annotations(library: str) -> list[BadData]:
    size = lambda folder: (folder / ANNOTATIONS[library]).stat().st_size  # noqa: E731
    unnamed = None if library == 'mmpose' else 'no samples'  # it knows one category only
    make = {
        'empty annotation file': ('Error', written(library, '')),
        'annotations in words': ('Error', written(library, 'square')),
        'annotations cut': (
            'Error',
            lambda folder: os.truncate(folder / ANNOTATIONS[library], size(folder) // 2),
        ),
        'annotations a list': ('Error', written(library, '[]')),
        'annotations a number': ('Error', written(library, '3')),
        'annotations an empty dict': ('Error|no samples', written(library, '{}')),
        'annotations missing': ('lacks ann_file', lambda folder: (folder / ANNOTATIONS[library]).unlink()),
        'annotations a folder': ('Error|directory', lambda folder: _folder(folder / ANNOTATIONS[library])),
        'no images': ('no samples', edited(library, lambda c: c.update(images=[], annotations=[]))),
        'no objects': ('no samples', edited(library, lambda c: c.update(annotations=[]))),
        'no categories': (
            unnamed,
            edited(library, lambda c: c.update(categories=[])),
        ),
        'no key of images': ('Error|no samples', edited(library, lambda c: c.pop('images') and None)),
        'no key of objects': ('Error|no samples', edited(library, lambda c: c.pop('annotations') and None)),
        'objects without boxes': ('Error|no samples', edited(library, _drop('bbox'))),
        'objects of no image': ('Error|no samples', edited(library, _all('image_id', 99))),
        'boxes of three numbers': ('Error', edited(library, _all('bbox', [1, 2, 3]))),
        'boxes in words': ('Error', edited(library, _all('bbox', ['a', 'b', 'c', 'd']))),
        'images without a name': (
            'Error',
            edited(library, _nameless),
        ),
    }
    return [BadData(f'{library}: {name}', library, ending, spoil) for name, (ending, spoil) in make.items()]


def _mask(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], Any]:
    def make(folder: Path) -> None:
        path = str(folder / 'masks' / '1.png')
        cv2.imwrite(path, change(cv2.imread(path, cv2.IMREAD_UNCHANGED)))

    return make


def _nothing(folder: Path) -> None:
    return None


def _third_class(folder: Path) -> None:
    (folder / 'train/class2').mkdir()
    cv2.imwrite(str(folder / 'train/class2/9.png'), np.zeros((9, 9, 3), np.uint8))


def _rename_train(folder: Path) -> None:
    os.rename(folder / 'train', folder / 'x')


def _emptied(*folders: str) -> Callable[[Path], None]:
    return lambda folder: [path.unlink() for name in folders for path in (folder / name).rglob('*.png')] and None


ANNOTATION_CASES = [*_annotations('mmdet'), *_annotations('mmpose')]
CONTENT_CASES = [
    BadData('mmdet: boxes without area', 'mmdet', None, edited('mmdet', _all('bbox', [5, 5, 0, 0]))),
    BadData('mmdet: boxes inverted', 'mmdet', None, edited('mmdet', _all('bbox', [20, 20, -10, -10]))),
    BadData('mmdet: boxes outside', 'mmdet', None, edited('mmdet', _all('bbox', [500, 500, 10, 10]))),
    BadData('mmdet: boxes partly outside', 'mmdet', None, edited('mmdet', _all('bbox', [50, 30, 900, 900]))),
    BadData('mmdet: boxes not a number', 'mmdet', None, edited('mmdet', _all('bbox', [float('nan')] * 4))),
    BadData('mmdet: categories unknown', 'mmdet', 'no samples', edited('mmdet', _all('category_id', 77))),
    BadData('mmdet: all crowds', 'mmdet', None, edited('mmdet', _all('iscrowd', 1))),
    BadData(
        'mmdet: one image',
        'mmdet',
        None,
        edited('mmdet', lambda c: c.update(images=c['images'][:1])),
        ('train_dataloader.drop_last=False',),
    ),
    BadData(
        'mmdet: more classes than the annotations',
        'mmdet',
        'metainfo.classes names x, but the categories of .* are square, disc',
        _nothing,
        (
            "loader.dataset.metainfo.classes=('square','disc','x')",
            "train_dataloader.dataset.metainfo.classes=('square','disc','x')",
        ),
    ),
    BadData('mmpose: points outside', 'mmpose', None, edited('mmpose', _all('keypoints', [900, 900, 2] * 17))),
    BadData('mmpose: no visible points', 'mmpose', 'no samples', edited('mmpose', _all('num_keypoints', 0))),
    BadData('mmpose: two points', 'mmpose', 'Error', edited('mmpose', _all('keypoints', [1, 1, 2] * 2))),
    BadData('mmpose: boxes without area', 'mmpose', 'Error|no samples', edited('mmpose', _all('bbox', [5, 5, 0, 0]))),
    BadData('mmseg: mask of another size', 'mmseg', 'Error', _mask(lambda mask: mask[:20, :20])),
    BadData('mmseg: mask of one pixel', 'mmseg', 'Error', _mask(lambda mask: mask[:1, :1])),
    BadData('mmseg: labels out of range', 'mmseg', r'1\.png: value \d+ is no class', _mask(lambda mask: mask + 9)),
    BadData('mmseg: all pixels ignored', 'mmseg', None, _mask(lambda mask: mask * 0 + 255)),
    BadData('mmseg: mask in colours', 'mmseg', 'Error', _mask(lambda mask: np.dstack([mask] * 3))),
    BadData('mmseg: mask of 16 bits', 'mmseg', None, _mask(lambda mask: mask.astype(np.uint16))),
    BadData('mmseg: mask text', 'mmseg', UNREADABLE, lambda folder: (folder / 'masks/1.png').write_text('a')),
    BadData('mmseg: mask missing', 'mmseg', UNREADABLE, lambda folder: (folder / 'masks/1.png').unlink()),
    BadData('mmseg: no images', 'mmseg', 'no samples', _emptied('images')),
    BadData('mmseg: no masks', 'mmseg', 'does not exist', _emptied('masks')),
    BadData(
        'mmseg: more classes than the head',
        'mmseg',
        'num_classes is 2, but BaseSegDataset has 3 classes',
        _nothing,
        ('model.decode_head.num_classes=2',),
    ),
    BadData('mmpretrain: no images', 'mmpretrain', 'no valid|Error|no samples', _emptied('train')),
    BadData('mmpretrain: a class without images', 'mmpretrain', None, _emptied('train/class1')),
    BadData(
        'mmpretrain: three classes for a head of two',
        'mmpretrain',
        'num_classes is 2, but CustomDataset has 3 classes',
        lambda folder: (
            (folder / 'train/class2').mkdir() or cv2.imwrite(str(folder / 'train/class2/9.png'), np.zeros((9, 9, 3)))
        ),
    ),
    BadData(
        'mmpretrain: no classes',
        'mmpretrain',
        'Error|no samples',
        lambda folder: [os.replace(path, folder / 'train' / path.name) for path in (folder / 'train').rglob('*.png')],
    ),
    BadData(
        'mmpretrain: no folder',
        'mmpretrain',
        'lacks data_prefix train',
        lambda folder: os.rename(folder / 'train', folder / 'x'),
    ),
    BadData(
        'mmpretrain: one sample',
        'mmpretrain',
        'has 1 samples, fewer than batch_size = 2',
        _nothing,
        ('train_dataloader.dataset.indices=1',),
    ),
    BadData('mmpretrain: batches of one', 'mmpretrain', ONE_VALUE, _nothing, ('train_dataloader.batch_size=1',)),
    BadData('mmdet: batches of one', 'mmdet', None, _nothing, ('train_dataloader.batch_size=1',)),
    BadData('mmseg: batches of one', 'mmseg', ONE_VALUE, _nothing, ('train_dataloader.batch_size=1',)),
    BadData('mmpose: batches of one', 'mmpose', ONE_VALUE, _nothing, ('train_dataloader.batch_size=1',)),
    BadData(
        'mmpretrain: a batch normalised over one value',
        'mmpretrain',
        ONE_VALUE,
        _nothing,
        ('train_dataloader.batch_size=1', 'train_dataloader.dataset.pipeline.1.scale=(1,1)'),
    ),
]
