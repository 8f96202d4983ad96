import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile

from reprefine.engine.data_checks.images import read_image
from reprefine.engine.data_checks.unreadable import UnreadableSample
from tests.helpers.run import ROOT


def smooth(seed: int) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), np.uint8)
    return cv2.resize(coarse, (160, 120), interpolation=cv2.INTER_CUBIC)


def test_an_image_is_rgb(tmp_path):
    cv2.imwrite(str(tmp_path / 'a.png'), smooth(0)[..., ::-1])
    assert np.array_equal(read_image(tmp_path / 'a.png'), smooth(0))
    cv2.imwrite(str(tmp_path / 'gray.png'), smooth(1)[..., 0])
    assert np.array_equal(read_image(str(tmp_path / 'gray.png')), np.repeat(smooth(1)[..., :1], 3, axis=2))


@pytest.mark.parametrize('progressive', [0, 1])
@pytest.mark.parametrize('share', [0.3, 0.6, 0.99])
def test_a_truncated_jpeg_is_refused(tmp_path, share, progressive):
    file = tmp_path / 'a.jpg'
    content = cv2.imencode('.jpg', smooth(2), [cv2.IMWRITE_JPEG_PROGRESSIVE, progressive])[1].tobytes()
    file.write_bytes(content[: int(share * len(content))])
    assert cv2.imread(str(file)) is not None  # filled with grey
    with pytest.raises(UnreadableSample, match=f'image {file} cannot be read: the file is truncated') as caught:
        read_image(file)
    assert caught.value.file == str(file)
    with pytest.raises((AssertionError, cv2.error)):  # as the loaders of the host libraries do
        LoadImageFromFile()(dict(img_path=str(file)))


@pytest.mark.parametrize('content', [b'', b'no image', 'png'])
def test_other_contents_are_refused(tmp_path, content):
    png = cv2.imencode('.png', smooth(3))[1].tobytes()
    (tmp_path / 'a.png').write_bytes(png[: len(png) // 2] if content == 'png' else content)
    with pytest.raises(UnreadableSample, match=r'a\.png cannot be read'):
        read_image(tmp_path / 'a.png')


@pytest.mark.parametrize('name', ['gone.png', '.'])
def test_a_missing_image_is_named(tmp_path: Path, name):
    with pytest.raises(UnreadableSample, match='does not exist'):
        read_image(tmp_path / name)


def test_nothing_else_decodes_images_from_files():
    readers = re.compile(r'\b(cv2|mmcv)\.imread\(')
    files = [path for folder in ('reprefine', 'tools') for path in (ROOT / folder).rglob('*.py')]
    found = {path.relative_to(ROOT).as_posix() for path in files if readers.search(path.read_text())}
    assert not found
