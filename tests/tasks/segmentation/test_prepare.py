import numpy as np
import pytest

from reprefine.engine.errors import UserError
from reprefine.tasks.segmentation.prepare import YEARS, mixed_list, train_images


@pytest.fixture
def root(tmp_path):
    """Ten images per year, of which two are for validation, and a test image of 2007."""
    for year in YEARS:
        folder = tmp_path / year
        for part in ('JPEGImages', 'ImageSets/Segmentation', 'ImageSets/Main'):
            (folder / part).mkdir(parents=True)
        ids = [f'{year[3:]}_{number:06d}' for number in range(10)]
        for image in [*ids, 'test_image'] if year == 'VOC2007' else ids:
            (folder / 'JPEGImages' / f'{image}.jpg').touch()
        (folder / 'ImageSets' / 'Main' / 'trainval.txt').write_text('\n'.join(ids))
        (folder / 'ImageSets' / 'Segmentation' / 'val.txt').write_text(f'{ids[3]}\n{ids[7]}\n')
    return tmp_path


def listed(root, style, seed=0):
    return mixed_list([train_images(root, year) for year in YEARS], style, np.random.default_rng(seed))


def test_validation_and_test_images_are_left_out(root):
    expected = {f'{year}/JPEGImages/{year[3:]}_{n:06d}.jpg' for year in YEARS for n in range(10) if n not in (3, 7)}
    for style in ('mixed', 'upstream-like'):
        images = listed(root, style)
        assert len(images) == 16
        assert set(images) == expected


def test_order(root):
    years = [image[:7] for image in listed(root, 'upstream-like')]
    assert years == ['VOC2012'] * 8 + ['VOC2007'] * 8
    assert [image[:7] for image in listed(root, 'mixed')] != years
    assert listed(root, 'mixed') == listed(root, 'mixed') != listed(root, 'mixed', seed=1)


def test_missing_files_are_named(root):
    (root / 'VOC2007' / 'ImageSets' / 'Main' / 'trainval.txt').unlink()
    with pytest.raises(UserError, match=r'trainval.txt does not exist; unpack the development kit of that year'):
        train_images(root, 'VOC2007')
    for image in (root / 'VOC2012' / 'JPEGImages').iterdir():
        image.unlink()
    with pytest.raises(UserError, match='JPEGImages has no images'):
        train_images(root, 'VOC2012')
