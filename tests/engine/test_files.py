import pytest

from reprefine.engine.errors import UserError
from reprefine.engine.files import read_text


def test_the_byte_order_mark_is_not_part_of_the_first_name(tmp_path):
    file = tmp_path / 'list.txt'
    file.write_bytes('\ufeffé.jpg\nb.jpg\n'.encode())
    assert read_text(file) == 'é.jpg\nb.jpg\n'
    file.write_bytes('é.jpg\n'.encode())
    assert read_text(file) == 'é.jpg\n'


def test_another_encoding_is_named(tmp_path):
    file = tmp_path / 'list.txt'
    file.write_bytes('a.jpg\n'.encode('utf-16'))
    with pytest.raises(UserError, match=r'list\.txt is not UTF-8 text \(byte 0\): save it as UTF-8'):
        read_text(file)
