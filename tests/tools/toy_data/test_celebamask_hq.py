import re
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from toy_data import make_toy_data

from tests.tools.toy_data.compare import files

FEATURES = {'l_brow', 'r_brow', 'l_eye', 'r_eye', 'nose', 'u_lip', 'l_lip'}
ALWAYS = FEATURES | {'skin', 'neck', 'cloth'}
SOMETIMES = {'l_ear', 'r_ear', 'eye_g', 'ear_r', 'mouth', 'neck_l', 'hair', 'hat'}
IDS = [*range(60), *range(2000, 2020)]


@pytest.fixture(scope='module')
def folder(toy):
    return toy('celebamask-hq')


@pytest.fixture(scope='module')
def masks(folder):
    """Return the masks, boolean, by number of the image and part; checks the files' names on the way."""
    found = {index: {} for index in IDS}
    for path in sorted((folder / 'CelebAMask-HQ-mask-anno').rglob('*.*')):
        index, part = re.fullmatch(r'(\d{5})_(\w+)\.png', path.name).groups()
        assert path.parent.name == str(int(index) // 2000) and part in ALWAYS | SOMETIMES
        image = Image.open(path)
        assert image.mode == 'RGB' and image.size == (128, 128)
        values = np.asarray(image)
        assert set(np.unique(values)) == {0, 255} and np.all(values == values[..., :1])
        found[int(index)][part] = values[..., 0] > 0
    return found


def test_images_are_complete_and_twice_as_large_as_the_masks(folder):
    assert sorted(int(path.stem) for path in (folder / 'CelebA-HQ-img').glob('*.jpg')) == IDS
    assert {Image.open(path).size for path in (folder / 'CelebA-HQ-img').iterdir()} == {(256, 256)}


def test_parts_occur_as_often_as_one_sees_them(masks):
    counts = Counter(part for parts in masks.values() for part in parts)
    assert all(counts[part] == len(IDS) for part in ALWAYS)
    assert all(3 <= counts[part] < len(IDS) for part in SOMETIMES - {'l_ear', 'r_ear'})
    assert counts['l_ear'] > 60 and counts['r_ear'] > 60


def test_parts_lie_where_a_face_has_them(masks):
    def middle(part):
        return np.array([np.argwhere(parts[part]).mean(0) for parts in masks.values()])

    eyes = middle('l_eye'), middle('r_eye')
    assert np.all(eyes[0][:, 1] + 5 < eyes[1][:, 1])
    heights = np.stack([middle(part)[:, 0] for part in ('l_brow', 'l_eye', 'nose', 'u_lip', 'l_lip', 'neck')], 1)
    assert np.all(np.diff(heights, axis=1) > 0)


def test_features_overlap_the_skin(masks):
    for parts in masks.values():
        for part in FEATURES - {'l_brow', 'r_brow'}:  # hair may hang over skin and brows alike
            assert (parts[part] & parts['skin']).sum() > 0.9 * parts[part].sum()
        if 'hair' in parts:
            assert (parts['hair'] & parts['skin']).sum() < 0.1 * parts['hair'].sum()


def test_masks_fit_the_image(folder, masks):
    """Clothes have one colour: within their mask it varies less than across the image."""
    for index in (0, 30, 2010):
        image = np.asarray(Image.open(folder / f'CelebA-HQ-img/{index}.jpg').resize((128, 128))).astype(float)
        cloth = masks[index]['cloth']
        hue = image / image.sum(2, keepdims=True)
        assert hue[cloth].std(0).max() < 0.04 < np.abs(hue[cloth].mean(0) - hue[~cloth].mean(0)).max()


def read_mapping(folder):
    lines = (folder / 'CelebA-HQ-to-CelebA-mapping.txt').read_text().splitlines()
    assert lines[0].split() == ['idx', 'orig_idx', 'orig_file']
    return [line.split() for line in lines[1:]]


def test_mapping_gives_all_three_splits(folder):
    rows = read_mapping(folder)
    assert [int(index) for index, _, _ in rows] == IDS
    numbers = np.array([int(number) for _, number, _ in rows])
    assert len(set(numbers)) == len(IDS) and numbers.max() < 202599
    splits = np.digitize(numbers, [162771, 182638])  # the rule of the set's authors
    assert np.bincount(splits).tolist() == [56, 12, 12]
    assert np.bincount(splits[-20:], minlength=3).min() > 0  # the second folder of masks has some of each


def test_mapping_names_the_files_of_celeba(folder):
    assert all(file == f'{int(number) + 1:06d}.jpg' for _, number, file in read_mapping(folder))


def test_same_seed_gives_the_same_bytes(folder, tmp_path):
    assert files(make_toy_data(tmp_path, ['celebamask-hq'])[0]) == files(folder)
