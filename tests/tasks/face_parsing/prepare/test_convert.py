import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reprefine.engine.errors import UserError
from reprefine.tasks.face_parsing.prepare.convert import check, make_plan, prepare

from ..raw_faces import ORIGINS, expected_labels, write_raw


@pytest.fixture
def root(tmp_path):
    return write_raw(tmp_path / 'celebamask-hq')


def plan(root: Path, **options):
    return make_plan(root, allow_partial=True, **options)


def digests(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob('*') if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def labels(root: Path, face: int) -> np.ndarray:
    with Image.open(root / 'mask' / f'{face}.png') as image:
        assert image.mode == 'L'
        return np.asarray(image)


@pytest.mark.parametrize('workers', [1, 2])
def test_label_maps_lists_and_class_list(root, workers):
    raw = digests(root)
    prepare(plan(root), workers)
    for face in ORIGINS:
        assert np.array_equal(labels(root, face), expected_labels(face))
    lists = {split: (root / f'{split}_celebahqmask.txt').read_text() for split in ('train', 'val', 'test')}
    assert lists == {'train': '0\n2002\n', 'val': '1\n3\n', 'test': '2001\n'}
    classes = (root / 'mask/classes.txt').read_text().split()
    assert classes[:3] + classes[17:] == ['background', 'skin', 'l_brow', 'hair', 'hat']
    assert raw.items() <= digests(root).items()
    assert len(digests(root)) == len(raw) + len(ORIGINS) + 4


def test_an_interrupted_call_continues(root):
    part = root / 'CelebAMask-HQ-mask-anno/1/02001_skin.png'
    content = part.read_bytes()
    part.write_bytes(content[:50])
    with pytest.raises(UserError, match='02001_skin.png is corrupted or not an image'):
        prepare(plan(root))
    finished = {path.name: path.stat().st_mtime_ns for path in (root / 'mask').glob('*.png')}
    assert 0 < len(finished) < len(ORIGINS)
    part.write_bytes(content)
    prepare(plan(root))
    now = {path.name: path.stat().st_mtime_ns for path in (root / 'mask').iterdir()}
    assert finished.items() <= now.items()
    assert now.keys() == {'classes.txt', *(f'{face}.png' for face in ORIGINS)}
    check(plan(root), workers=2)


def test_check_finds_what_is_missing_or_wrong_and_writes_nothing(root):
    prepare(plan(root))
    check(plan(root))
    changed = labels(root, 1).copy()
    changed[0, 0] += 1
    Image.fromarray(changed).save(root / 'mask/1.png')
    (root / 'mask/3.png').unlink()
    (root / 'mask/2002.png').write_bytes(b'no image')
    (root / 'val_celebahqmask.txt').write_text('1\n')
    before = digests(root)
    with pytest.raises(UserError) as caught:
        check(plan(root))
    assert ': val_celebahqmask.txt, mask/1.png, mask/3.png, mask/2002.png; remove' in str(caught.value)
    assert digests(root) == before


def test_check_of_an_unprepared_folder_shortens_the_list(root):
    with pytest.raises(UserError, match='mask/0.png and 4 more'):
        check(plan(root))


def test_another_split_does_not_replace_the_first(root):
    prepare(plan(root))
    before = digests(root)
    with pytest.raises(UserError, match='train_celebahqmask.txt was written with other files or options'):
        prepare(plan(root, split='random', seed=1))
    assert digests(root) == before


def test_random_split(root):
    prepared = plan(root, split='random', seed=1)
    prepare(prepared)
    lines = {split: (root / f'{split}_celebahqmask.txt').read_text().split() for split in ('train', 'val', 'test')}
    assert {split: list(map(int, ids)) for split, ids in lines.items()} == prepared.splits
    assert sorted(sum(prepared.splits.values(), [])) == sorted(ORIGINS)


def test_label_maps_of_unknown_numbering_are_left_alone(root):
    (root / 'mask').mkdir()
    Image.fromarray(expected_labels(0)).save(root / 'mask/0.png')
    before = digests(root)
    with pytest.raises(UserError, match='has label maps of unknown classes'):
        prepare(plan(root))
    assert digests(root) == before
