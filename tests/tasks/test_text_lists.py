"""Every reader of text lists finds the first name of a list that an editor on Windows has saved."""

import json
from pathlib import Path

import pytest

from reprefine.tasks.classification.datasets.tiny_imagenet import val_wnids
from reprefine.tasks.classification.image_lists import read_list as read_samples
from reprefine.tasks.classification.prepare.imagenet_subset import read_classes
from reprefine.tasks.classification.prepare.inaturalist import read_annotations
from reprefine.tasks.depth.prepare import read_list as read_pairs
from reprefine.tasks.face_parsing.datasets import CelebAHQImages
from reprefine.tasks.face_parsing.prepare.raw import read_mapping
from reprefine.tasks.reid.datasets.parsing import parse_list
from reprefine.tasks.reid.datasets.releases import MSMT17
from reprefine.tasks.segmentation.prepare import train_images


def faces(file: Path) -> list[str]:
    image = file.parent / 'CelebA-HQ-img' / '7.jpg'
    image.parent.mkdir(exist_ok=True)
    image.touch()
    return [Path(sample['img_path']).stem for sample in CelebAHQImages(str(file.parent)).load_data_list()]


def first_photo(file: Path) -> str:
    return parse_list(file, Path(), MSMT17.NAME)[0].path


def validation_images_left_out(file: Path) -> list[str]:
    for name in ('a', 'b'):
        (file.parents[2] / 'JPEGImages').mkdir(exist_ok=True)
        (file.parents[2] / 'JPEGImages' / f'{name}.jpg').touch()
    return train_images(file.parents[3], 'VOC2012')


ENTRIES = json.dumps(dict(images=[dict(id=1, file_name='a')], annotations=[dict(image_id=1, category_id=3)]))
READERS = {
    'VOC2012/ImageSets/Segmentation/val.txt': ('a\n', validation_images_left_out, ['VOC2012/JPEGImages/b.jpg']),
    'nyu.txt': ('a.jpg b.png 518.8\n', lambda file: str(read_pairs(file)[0].image), 'a.jpg'),
    'list_train.txt': (
        '0000_000_01_x.jpg 0\n',
        lambda file: parse_list(file, Path(), MSMT17.NAME)[0].path,
        '0000_000_01_x.jpg',
    ),
    'mapping.txt': ('idx orig_idx orig_file\n0 119613 119614.jpg\n', read_mapping, {0: 119613}),
    'train_celebahqmask.txt': ('7\n', faces, ['7']),
    'samples.txt': ('a.jpg 1\n', read_samples, [('a.jpg', 1)]),
    'classes.txt': ('n01558993\n', read_classes, ['n01558993']),
    'val/val_annotations.txt': ('a.jpg\tn01558993\t0\n', lambda f: val_wnids(f.parents[1]), {'a.jpg': 'n01558993'}),
    'val2018.json': (ENTRIES, read_annotations, [('a', 3)]),
}


@pytest.mark.parametrize('name', READERS)
@pytest.mark.parametrize('mark', ['', '\ufeff'])
def test_the_byte_order_mark_is_not_part_of_the_first_name(tmp_path, name, mark):
    text, read, expected = READERS[name]
    file = tmp_path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(mark + text, encoding='utf-8')
    assert read(file) == expected
