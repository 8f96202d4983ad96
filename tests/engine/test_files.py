"""Text files of users, and natural sorting of files."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from reprefine.engine.checkpoints.integrity import check_checkpoint_exists
from reprefine.engine.errors import UserError
from reprefine.engine.files import natural_key, read_text
from reprefine.methods.dvt.visualization.video import read_frames


def test_numbers_are_sorted_by_value_and_the_rest_as_text():
    names = ['a.png', 'epoch_2.pth', 'epoch_10.pth', 'epoch_999.pth', 'epoch_1000.pth', 'iter_1.pth', 'iter_01_2.pth']
    assert [path.name for path in sorted(map(Path, reversed(names)), key=natural_key)] == names
    assert sorted(map(Path, ('2', 'b', '10', 'a')), key=natural_key) == list(map(Path, ('2', '10', 'a', 'b')))


def test_frames_of_a_folder_are_sorted_by_number(tmp_path):
    for number in (1, 2, 10, 100):
        cv2.imwrite(str(tmp_path / f'frame{number}.png'), np.full((2, 2, 3), number, np.uint8))
    assert [frame[0, 0, 0] for frame in read_frames(tmp_path)] == [1, 2, 10, 100]


def test_checkpoints_of_a_folder_are_listed_by_number(tmp_path):
    for number in (2, 10, 1):
        (tmp_path / f'epoch_{number}.pth').touch()
    with pytest.raises(UserError, match='its folder holds epoch_1.pth, epoch_2.pth, epoch_10.pth$'):
        check_checkpoint_exists(str(tmp_path / 'epoch_3.pth'))


def test_the_byte_order_mark_is_not_part_of_the_first_name(tmp_path):
    file = tmp_path / 'list.txt'
    file.write_bytes('\ufeffé.jpg\nb.jpg\n'.encode())
    assert read_text(file) == 'é.jpg\nb.jpg\n'
    file.write_bytes('é.jpg\n'.encode())
    assert read_text(file) == 'é.jpg\n'


def test_another_encoding_is_refused(tmp_path):
    file = tmp_path / 'list.txt'
    file.write_bytes('a.jpg\n'.encode('utf-16'))
    with pytest.raises(UserError, match=r'list\.txt is not UTF-8 text \(byte 0\): save it as UTF-8'):
        read_text(file)
