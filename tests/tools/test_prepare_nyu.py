import os

import cv2
import numpy as np
import pytest

from reprefine.tasks.depth.prepare import read_list
from tests.helpers.run_tool import run_tool

TOOL = 'dataset_tools/prepare_nyu.py'
FRAMES = {'sync': ['kitchen_0028b/00045', 'home_office_0001/00000'], 'official_splits/test': ['bathroom/00046']}


def write_pair(folder, frame, value):
    scene, number = frame.split('/')
    (folder / scene).mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(folder / scene / f'rgb_{number}.jpg'), np.full((6, 8, 3), value, np.uint8))
    cv2.imwrite(str(folder / scene / f'sync_depth_{number}.png'), np.full((6, 8), 1000 + value, np.uint16))


@pytest.fixture
def release(tmp_path):
    """The folders of the release, and its lists in ``tmp_path``."""
    for root, frames in FRAMES.items():
        lines = []
        for value, frame in enumerate(frames):
            write_pair(tmp_path / 'release' / root, frame, value)
            scene, number = frame.split('/')
            lines.append(f'/{scene}/rgb_{number}.jpg /{scene}/sync_depth_{number}.png 518.8579\n')
        lines.append(f'/{scene}/rgb_{number}1.jpg None 518.8579\n')
        (tmp_path / ('train.txt' if root == 'sync' else 'test.txt')).write_text(''.join(lines))
    return tmp_path / 'release'


def prepare(release):
    folder = release.parent
    lists = ('--train-list', folder / 'train.txt', '--test-list', folder / 'test.txt')
    return run_tool(TOOL, release, '--out', folder / 'nyu', *lists)


def snapshot(folder):
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in sorted(folder.rglob('*')) if path.is_file()}


def test_mmseg_reads_the_result(release):
    from mmseg.datasets import NYUDataset

    before = snapshot(release)
    assert prepare(release) == 0
    assert snapshot(release) == before
    out = release.parent / 'nyu'
    dataset = NYUDataset(
        data_root=str(out), data_prefix=dict(img_path='images/train', depth_map_path='annotations/train')
    )
    samples = [dataset.get_data_info(index) for index in range(len(dataset))]
    assert [os.path.basename(sample['img_path']) for sample in samples] == [
        'home_office_0001_00000.jpg',
        'kitchen_0028b_00045.jpg',
    ]
    classes = dataset.metainfo['classes']
    assert [classes[sample['category_id']] for sample in samples] == ['home_office', 'kitchen']
    depths = [cv2.imread(sample['depth_map_path'], cv2.IMREAD_UNCHANGED) for sample in samples]
    assert [depth[0, 0] for depth in depths] == [1001, 1000]
    assert depths[0].dtype == np.uint16
    assert (out / 'nyu_test.txt').read_text() == (
        'images/test/bathroom_00046.jpg annotations/test/bathroom_00046.png 518.8579\n'
    )


def test_second_call_keeps_complete_files_and_replaces_truncated_files(release):
    prepare(release)
    out = release.parent / 'nyu'
    complete = {path: content for path, (content, _) in snapshot(out).items()}
    cut = out / 'annotations/train/kitchen_0028b_00045.png'
    cut.unlink()
    cut.write_bytes(complete[cut][:20])
    kept = out / 'images/train/kitchen_0028b_00045.jpg'
    inode = kept.stat().st_ino
    (out / 'images/test/bathroom_00046.jpg').unlink()
    assert prepare(release) == 0
    assert {path: content for path, (content, _) in snapshot(out).items()} == complete
    assert kept.stat().st_ino == inode


def test_copies_where_links_are_impossible(release, monkeypatch):
    monkeypatch.setattr(os, 'link', lambda *_: (_ for _ in ()).throw(OSError('other device')))
    assert prepare(release) == 0
    source, target = (
        release / 'official_splits/test/bathroom/rgb_00046.jpg',
        release.parent / 'nyu/images/test/bathroom_00046.jpg',
    )
    assert target.read_bytes() == source.read_bytes()
    assert target.stat().st_ino != source.stat().st_ino


def corrupt_missing(release):
    (release / 'sync/kitchen_0028b/sync_depth_00045.png').unlink()
    return '1 of 4 listed files', 'kitchen_0028b/sync_depth_00045.png'


def corrupt_eight_bits(release):
    file = release / 'sync/home_office_0001/sync_depth_00000.png'
    cv2.imwrite(str(file), np.zeros((6, 8), np.uint8))
    return (f'{file} is not a 16-bit depth map of the size of rgb_00000.jpg',)


def corrupt_size(release):
    file = release / 'sync/home_office_0001/sync_depth_00000.png'
    cv2.imwrite(str(file), np.zeros((6, 9), np.uint16))
    return ('of the size of rgb_00000.jpg',)


def corrupt_image(release):
    (release / 'sync/home_office_0001/rgb_00000.jpg').write_bytes(b'')
    return ('corrupted or not an image',)


def corrupt_line(release):
    (release.parent / 'train.txt').write_text('a.jpg b.png\n')
    return ('train.txt, line 1', 'focal length')


def corrupt_empty(release):
    (release.parent / 'train.txt').write_text('')
    return ('train.txt is empty',)


def corrupt_list(release):
    (release.parent / 'train.txt').unlink()
    return ('train.txt does not exist',)


CORRUPTIONS = [
    corrupt_missing, corrupt_eight_bits, corrupt_size, corrupt_image, corrupt_line, corrupt_empty, corrupt_list
]  # fmt: skip


@pytest.mark.parametrize('corrupt', CORRUPTIONS, ids=lambda corrupt: corrupt.__name__)
def test_corrupted_releases_are_named(release, corrupt, capsys):
    messages = corrupt(release)
    assert prepare(release) == 1
    error = capsys.readouterr().err
    assert all(message in error for message in messages)
    assert error.count('\n') == 1


def test_release_itself_is_no_target(release, capsys):
    assert run_tool(TOOL, release, '--out', release, '--train-list', release.parent / 'train.txt') == 1
    assert 'give another one' in capsys.readouterr().err
    assert run_tool(TOOL, release, '--out', release) == 1
    assert '--train-list' in capsys.readouterr().err


def test_list_with_folders_of_the_release(tmp_path):
    (tmp_path / 'list.txt').write_text('sync/den_1/rgb_2.jpg sync/den_1/sync_depth_2.png 500\n\n')
    (pair,) = read_list(tmp_path / 'list.txt')
    assert (pair.name, str(pair.image), pair.focal) == ('den_1_2', 'sync/den_1/rgb_2.jpg', '500')
