import numpy as np
import pytest
from PIL import Image

from reprefine.engine.errors import UserError
from reprefine.tasks.face_parsing.classes import CLASSES, PALETTE, PARTS, left_right_labels
from reprefine.tasks.face_parsing.prepare.label_maps import merge_files, merge_parts, read_mask

from ..raw_faces import VALUES


def test_numbers_of_the_parts():
    assert {part: value for value, part in enumerate(CLASSES)} == {'background': 0, **VALUES}
    assert len(PALETTE) == len({tuple(color) for color in PALETTE}) == len(CLASSES) == 19


def test_labels_that_a_flip_swaps():
    assert left_right_labels(PARTS) == [(1, 2), (3, 4), (6, 7)]
    assert left_right_labels(CLASSES) == [(2, 3), (4, 5), (7, 8)]
    assert left_right_labels(('r_eye', 'nose', 'l_eye', 'l_ear')) == [(2, 0)]


@pytest.mark.parametrize('backwards', [False, True])
def test_the_later_part_wins_in_whatever_order_the_masks_come(backwards):
    rng = np.random.default_rng(0)
    masks = {part: rng.random((30, 25)) < 0.2 for part in PARTS}
    expected = np.zeros((30, 25), int)
    for row, column in np.ndindex(30, 25):
        expected[row, column] = max([VALUES[part] for part in PARTS if masks[part][row, column]], default=0)
    labels = merge_parts(dict(reversed(masks.items())) if backwards else masks)
    assert labels.dtype == np.uint8
    assert np.array_equal(labels, expected)
    assert set(np.unique(labels)) == set(range(19))


@pytest.mark.parametrize('value', [1, 128, 255])
@pytest.mark.parametrize('mode', ['1', 'L', 'P', 'RGB', 'RGBA', 'LA'])
def test_any_non_zero_pixel_of_any_file_belongs_to_the_part(tmp_path, mode, value):
    mask = np.random.default_rng(0).random((8, 6)) < 0.5
    image = Image.fromarray((mask * (255 if mode == '1' else value)).astype(np.uint8)).convert(mode)
    image.save(tmp_path / 'part.png')
    with Image.open(tmp_path / 'part.png') as stored:
        assert stored.mode == mode
    assert np.array_equal(read_mask(tmp_path / 'part.png'), mask)


def test_a_colour_whose_grey_value_is_zero_belongs_to_the_part(tmp_path):
    Image.new('RGB', (2, 2), (0, 0, 1)).save(tmp_path / 'blue.png')
    assert read_mask(tmp_path / 'blue.png').all()


@pytest.mark.parametrize('keep', [10, 60, -100])
def test_a_corrupted_file_is_named(tmp_path, keep):
    file = tmp_path / '00000_skin.png'
    noise = np.random.default_rng(0).integers(0, 255, (40, 40), np.uint8)
    Image.fromarray(noise).save(file)
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(UserError, match='00000_skin.png is corrupted or not an image'):
        merge_files({'skin': file})


def test_a_flipped_bit_is_noticed(tmp_path):
    file = tmp_path / '00000_skin.png'
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40), np.uint8)).save(file)
    content = bytearray(file.read_bytes())
    content[content.index(b'IDAT') + 600] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match='00000_skin.png is corrupted or not an image'):
        merge_files({'skin': file})


def test_masks_of_different_sizes_are_refused(tmp_path):
    files = {'skin': tmp_path / '00007_skin.png', 'hat': tmp_path / '00007_hat.png'}
    Image.new('L', (8, 6)).save(files['skin'])
    Image.new('L', (6, 8)).save(files['hat'])
    with pytest.raises(UserError, match='00007_skin.png 8x6, 00007_hat.png 6x8'):
        merge_files(files)
