import shutil
import sys

import numpy as np
import pytest
import scipy.io
from PIL import Image
from toy_data import cuhk03 as toy

from reprefine.engine.errors import UserError
from reprefine.tasks.reid import CUHK03
from reprefine.tasks.reid.prepare import RAW, prepare_cuhk03
from tests.helpers.run_tool import run_tool

h5py = pytest.importorskip('h5py')
TOOL = 'dataset_tools/prepare_cuhk03.py'
# Camera pair, person and column of every image, from 1; identities are counted through the pairs.
INDICES = {(1, 1, 1): 1, (1, 1, 6): 1, (1, 2, 3): 2, (1, 2, 10): 2, (2, 1, 2): 3, (2, 1, 7): 3, (2, 1, 8): 3}
PARTS = dict(train_idx=[1, 2], query_idx=[3, 5], gallery_idx=[4, 6, 7])
PREPARED = {
    'bounding_box_train': {'0001_c1_1.png': (1, 1, 1), '0001_c2_2.png': (1, 1, 6)},
    'query': {'0002_c1_3.png': (1, 2, 3), '0003_c1_5.png': (2, 1, 2)},
    'bounding_box_test': {'0002_c2_4.png': (1, 2, 10), '0003_c2_6.png': (2, 1, 7), '0003_c2_7.png': (2, 1, 8)},
}


def make_image(boxes, index):
    """The image at an index, of shape (height, width, 3)."""
    rng = np.random.default_rng([len(boxes), *index])
    return rng.integers(256, size=(*rng.integers(4, 9, 2), 3), dtype=np.uint8)


def write_raw(file):
    """Write the images as MATLAB does: every shape reversed, cells of references, missing images empty."""
    with h5py.File(file, 'w') as raw:
        store = raw.create_group('#refs#')
        empty = store.create_dataset('empty', data=np.zeros(2, np.uint64)).ref
        for boxes in ('labeled', 'detected'):
            pairs = []
            for pair, persons in enumerate((2, 1), 1):
                cells = np.full((10, persons), empty, dtype=h5py.ref_dtype)
                for index in (index for index in INDICES if index[0] == pair):
                    name = f'{boxes}{index}'
                    cells[index[2] - 1, index[1] - 1] = store.create_dataset(name, data=make_image(boxes, index).T).ref
                pairs.append(store.create_dataset(f'{boxes}{pair}', data=cells).ref)
            raw.create_dataset(boxes, data=np.array([pairs], dtype=h5py.ref_dtype))


def write_release(root):
    """Write the raw images and the index files; return the folder."""
    write_raw(root / RAW)
    names = [f'{a}_{b:03d}_{1 if c < 6 else 2}_{c:02d}.png' for a, b, c in INDICES]
    columns = dict(
        filelist=np.array([[name] for name in names], object),
        labels=np.array([[float(label)] for label in INDICES.values()]),
        camId=np.array([[1.0 if index[2] < 6 else 2.0] for index in INDICES]),
        **{key: np.array(positions, float)[:, None] for key, positions in PARTS.items()},
    )
    for boxes in ('labeled', 'detected'):
        scipy.io.savemat(root / f'cuhk03_new_protocol_config_{boxes}.mat', columns)
    return root


def pixels(file):
    with Image.open(file) as image:
        return np.asarray(image)


def test_every_image_is_written_to_its_folder(tmp_path):
    before = {file.name: file.read_bytes() for file in write_release(tmp_path).iterdir()}
    counts = prepare_cuhk03(tmp_path, warn=lambda line: None)
    assert counts == dict.fromkeys(('labeled', 'detected'), dict(train=2, query=2, gallery=3))
    for boxes in ('labeled', 'detected'):
        for folder, expected in PREPARED.items():
            files = {file.name: file for file in (tmp_path / boxes / folder).iterdir()}
            assert files.keys() == expected.keys()
            for name, index in expected.items():
                assert np.array_equal(pixels(files[name]), make_image(boxes, index))
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    assert len(CUHK03(str(tmp_path), 'test')) == 5


def test_numbers_are_compared_with_the_release(tmp_path):
    warnings = []
    prepare_cuhk03(write_release(tmp_path), warnings.append)
    assert len(warnings) == 6
    assert warnings[0] == 'CUHK03 labeled, train: 2 images of 1 identities; the release has 7,368 of 767'
    assert '3 images of 2 identities; the release has 5,332 of 700' in warnings[-1]


def test_it_continues_after_an_interruption(tmp_path, monkeypatch):
    write_release(tmp_path)
    save, saved = Image.Image.save, []

    def interrupted(image, file, *args, **kwargs):
        if len(saved) == 3:
            raise KeyboardInterrupt
        saved.append(file)
        save(image, file, *args, **kwargs)

    monkeypatch.setattr(Image.Image, 'save', interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare_cuhk03(tmp_path, warn=lambda line: None)
    done = {file: file.stat().st_mtime_ns for file in (tmp_path / 'labeled').rglob('*.png')}
    assert len(done) == 3
    monkeypatch.setattr(Image.Image, 'save', save)
    prepare_cuhk03(tmp_path, warn=lambda line: None)
    assert len(list(tmp_path.rglob('*.png'))) == 14
    assert {file: file.stat().st_mtime_ns for file in done} == done


def test_toy_release_gives_the_toy_folders(tmp_path):
    toy.write(tmp_path / 'toy', np.random.default_rng(0))
    (tmp_path / 'raw').mkdir()
    for file in (tmp_path / 'toy').glob('*.mat'):
        shutil.copy(file, tmp_path / 'raw')
    prepare_cuhk03(tmp_path / 'raw', warn=lambda line: None)
    expected = {file.relative_to(tmp_path / 'toy'): pixels(file) for file in (tmp_path / 'toy').rglob('*.png')}
    written = {file.relative_to(tmp_path / 'raw'): pixels(file) for file in (tmp_path / 'raw').rglob('*.png')}
    assert written.keys() == expected.keys()
    assert len(written) > 200
    assert all(np.array_equal(written[name], expected[name]) for name in expected)


def test_tool(tmp_path, capsys):
    assert run_tool(TOOL, write_release(tmp_path)) == 0
    printed = capsys.readouterr()
    assert f'{tmp_path}/detected: train 2, query 2, gallery 3 images' in printed.out
    assert printed.err.count('warning: CUHK03') == 6


def test_missing_files_are_listed(tmp_path, capsys):
    write_raw(tmp_path / RAW)
    assert run_tool(TOOL, tmp_path) == 1
    error = capsys.readouterr().err
    assert RAW not in error
    assert 'cuhk03_new_protocol_config_labeled.mat' in error
    assert 'cuhk03_new_protocol_config_detected.mat' in error


def test_missing_package_names_the_remedy(tmp_path, monkeypatch):
    write_release(tmp_path)
    monkeypatch.setitem(sys.modules, 'h5py', None)
    with pytest.raises(UserError, match='pip install h5py'):
        prepare_cuhk03(tmp_path)


def truncate_raw(root):
    content = (root / RAW).read_bytes()
    (root / RAW).write_bytes(content[: len(content) // 2])


def reindex_protocol(root):
    scipy.io.savemat(root / 'cuhk03_new_protocol_config_labeled.mat', dict(labels=np.ones((3, 1))))


def truncate_protocol(root):
    file = root / 'cuhk03_new_protocol_config_labeled.mat'
    file.write_bytes(file.read_bytes()[:200])


def remove_image(root):
    with h5py.File(root / RAW, 'a') as raw:
        pair = raw[raw['labeled'][0, 1]]
        pair[1, 0] = raw['#refs#/empty'].ref


@pytest.mark.parametrize(
    ('corrupt', 'message'),
    [
        (truncate_raw, 'truncated or not a MATLAB'),
        (reindex_protocol, 'not a protocol file'),
        (truncate_protocol, 'not a protocol file'),
        (remove_image, r'image \(1, 0, 1\) in labeled is empty'),
    ],
)
def test_corrupted_files_are_named(tmp_path, corrupt, message):
    corrupt(write_release(tmp_path))
    with pytest.raises(UserError, match=message):
        prepare_cuhk03(tmp_path, warn=lambda line: None)
