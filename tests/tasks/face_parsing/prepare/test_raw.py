import shutil

import pytest

from reprefine.engine.errors import UserError
from reprefine.tasks.face_parsing.prepare.raw import find_faces, read_mapping

from ..raw_faces import BOXES, ORIGINS, write_raw


@pytest.fixture
def root(tmp_path):
    return write_raw(tmp_path / 'raw')


def test_complete_faces_are_found(root):
    raw = find_faces(root, allow_partial=True)
    assert raw.origins == ORIGINS
    assert raw.parts.keys() == ORIGINS.keys()
    assert raw.parts[2001].keys() == BOXES.keys()
    assert raw.parts[2001]['hair'] == root / 'CelebAMask-HQ-mask-anno/1/02001_hair.png'


def test_other_files_are_ignored(root):
    for name in ('Thumbs.db', '00000_beard.png', '0_skin.png', '.00000_hat.png'):
        (root / 'CelebAMask-HQ-mask-anno/0' / name).touch()
    (root / 'CelebA-HQ-img/.DS_Store').touch()
    assert find_faces(root, allow_partial=True).parts[0].keys() == BOXES.keys()


def test_incomplete_faces_are_left_out(root):
    (root / 'CelebA-HQ-img/0.jpg').unlink()
    for file in (root / 'CelebAMask-HQ-mask-anno/1').glob('02001_*'):
        file.unlink()
    assert find_faces(root, allow_partial=True).origins.keys() == {1, 3, 2002}


def test_a_subset_is_accepted_only_with_allow_partial(root):
    (root / 'CelebA-HQ-img/1.jpg').unlink()
    with pytest.raises(UserError, match='--allow-partial') as caught:
        find_faces(root)
    message = str(caught.value)
    assert 'CelebA-HQ-img/{id}.jpg: 29,996 missing, such as id 1;' in message
    assert '{id:05d}_<part>.png: 29,995 missing, such as id 2;' in message
    assert 'CelebA-HQ-to-CelebA-mapping.txt: 29,995 missing, such as id 2;' in message


@pytest.mark.parametrize(
    'missing', ['CelebA-HQ-img', 'CelebAMask-HQ-mask-anno', 'CelebA-HQ-to-CelebA-mapping.txt', '.']
)
def test_missing_files_are_listed_with_the_expected_layout(root, missing):
    path = root / missing
    path.unlink() if path.is_file() else shutil.rmtree(path)
    with pytest.raises(UserError) as caught:
        find_faces(root, allow_partial=True)
    message = str(caught.value)
    lacking = message.partition('; expected there')[0]
    assert lacking.startswith(f'{root} lacks')
    assert missing in lacking or (missing == '.' and lacking.count(',') == 2)
    assert 'NNNNN_<part>.png' in message


@pytest.mark.parametrize(
    'text', ['', 'id file\n0 a.jpg\n', 'idx orig_idx orig_file\n0 one 1.jpg\n', 'idx orig_idx\n7\n']
)
def test_a_broken_mapping_is_named(tmp_path, text):
    (tmp_path / 'mapping.txt').write_text(text)
    with pytest.raises(UserError, match='mapping.txt is not a table with the columns idx, orig_idx, orig_file'):
        read_mapping(tmp_path / 'mapping.txt')
