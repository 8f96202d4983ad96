import re
from collections import defaultdict

import h5py
import numpy as np
import pytest
import scipy.io
from PIL import Image
from sklearn.metrics import average_precision_score
from toy_data import make_toy_data

from tests.tools.toy_data.compare import files

PARTS = ('bounding_box_train', 'query', 'bounding_box_test')
NAMES = {
    'market1501': r'(-1|\d{4})_c([1-6])s[1-6]_\d{6}_\d{2}\.jpg',
    'dukemtmc': r'(\d{4})_c([1-8])_f\d{7}\.jpg',
    'msmt17': r'(\d{4})_\d{3}_(\d{2})_\d{4}(?:morning|noon|afternoon)_\d{4}_\d\.jpg',
    'cuhk03/labeled': r'(\d{4})_c([12])_\d+\.png',
    'cuhk03/detected': r'(\d{4})_c([12])_\d+\.png',
}
CAMERAS = {'market1501': 6, 'dukemtmc': 8, 'msmt17': 15, 'cuhk03/labeled': 2, 'cuhk03/detected': 2}
# Identities in the largest batch of a config: 128 images, four of each.
BATCH = 32
everywhere = pytest.mark.parametrize('name', NAMES)


@pytest.fixture
def photos(toy):
    """Return, for a set, the path, identity and camera of every photo of its training, query and gallery part."""

    def read(name):
        folder = toy(name.split('/')[0]) / '/'.join(name.split('/')[1:])
        if name == 'msmt17':
            lists = {'bounding_box_train': ('train', 'val'), 'query': ('query',), 'bounding_box_test': ('gallery',)}
            paths = {
                part: [path for one in names for path, _ in read_list(folder, one)] for part, names in lists.items()
            }
        else:
            paths = {part: sorted((folder / part).iterdir()) for part in PARTS}
        return {part: [(path, *facts(name, path)) for path in found] for part, found in paths.items()}

    return read


def read_list(folder, name):
    """Return the path and the identity of every line of one of MSMT17's lists."""
    lines = [line.split(' ') for line in (folder / f'list_{name}.txt').read_text().splitlines()]
    base = folder / ('train' if name in ('train', 'val') else 'test')
    return [(base / path, int(identity)) for path, identity in lines]


def facts(name, path):
    return tuple(int(group) for group in re.fullmatch(NAMES[name], path.name).groups())


@everywhere
def test_identities_and_cameras(photos, name):
    found = photos(name)
    train, query, gallery = ({identity for _, identity, _ in found[part]} for part in PARTS)
    assert len(train) >= BATCH and len(query) >= 8 and query <= gallery
    if name != 'msmt17':  # counts test identities from 0 again
        assert train.isdisjoint(query | gallery)
    assert {camera for part in PARTS for _, _, camera in found[part]} == set(range(1, CAMERAS[name] + 1))


@everywhere
def test_two_queries_for_each_test_identity_with_matches_in_other_cameras(photos, name):
    found, seen_by, queried = photos(name), defaultdict(set), defaultdict(list)
    for _, identity, camera in found['bounding_box_test']:
        seen_by[identity].add(camera)
    for _, identity, camera in found['query']:
        queried[identity].append(camera)
        assert seen_by[identity] - {camera}
    assert all(len(cameras) == len(set(cameras)) == 2 for cameras in queried.values())


@everywhere
def test_images_are_upright_and_of_the_usual_size(photos, name):
    sizes = np.array([Image.open(path).size for part in photos(name).values() for path, _, _ in part])
    assert np.all(sizes[:, 1] > 1.6 * sizes[:, 0])
    if name == 'market1501':
        assert set(map(tuple, sizes)) == {(64, 128)}
    else:
        assert len(set(map(tuple, sizes))) > 10


def test_market_junk_and_distractors_lie_in_the_gallery_alone(photos):
    found = photos('market1501')
    counts = {part: [sum(identity == odd for _, identity, _ in found[part]) for odd in (-1, 0)] for part in PARTS}
    assert counts == {'bounding_box_train': [0, 0], 'query': [0, 0], 'bounding_box_test': [12, 12]}


def test_duke_has_gallery_identities_without_a_query(photos):
    found = photos('dukemtmc')
    gallery, query = ({identity for _, identity, _ in found[part]} for part in ('bounding_box_test', 'query'))
    assert len(gallery - query) == 3


def test_msmt_lists_name_every_file_once_with_its_identity(toy):
    folder = toy('msmt17')
    for subset, names in (('train', ('train', 'val')), ('test', ('query', 'gallery'))):
        lines = [line for name in names for line in read_list(folder, name)]
        assert sorted(path for path, _ in lines) == sorted((folder / subset).glob('*/*.jpg'))
        assert all(int(path.parent.name) == identity == facts('msmt17', path)[0] for path, identity in lines)
    assert {identity for _, identity in read_list(folder, 'val')} == {
        identity for _, identity in read_list(folder, 'train')
    }


def cuhk_images(folder, release):
    """Read the raw release as MATLAB would show it: names as in the file list, and the images."""
    images = {}
    with h5py.File(folder / 'cuhk-03.mat') as file:
        for pair, reference in enumerate(file[release][0], 1):
            for (person, column), cell in np.ndenumerate(file[reference][:].T):
                image = file[cell][:].T
                if image.ndim == 3:
                    images[f'{pair}_{person + 1:03d}_{1 + column // 5}_{column + 1:02d}.png'] = image
                else:
                    assert file[cell].attrs['MATLAB_empty'] == 1 and not image.any()
    return images


@pytest.mark.parametrize('release', ['labeled', 'detected'])
def test_cuhk_raw_equals_prepared(toy, release):
    folder = toy('cuhk03')
    raw = cuhk_images(folder, release)
    protocol = scipy.io.loadmat(folder / f'cuhk03_new_protocol_config_{release}.mat')
    names = [cell[0] for cell in protocol['filelist'].ravel()]
    assert sorted(names) == sorted(raw)
    assert [int(name.split('_')[2]) for name in names] == protocol['camId'].ravel().tolist()
    written = set()
    for field, part in zip(('train_idx', 'query_idx', 'gallery_idx'), PARTS, strict=True):
        for index in protocol[field].ravel().astype(int):
            label, camera = (int(protocol[key][index - 1, 0]) for key in ('labels', 'camId'))
            path = folder / release / part / f'{label:04d}_c{camera}_{index}.png'
            np.testing.assert_array_equal(np.asarray(Image.open(path)), raw[names[index - 1]])
            written.add(path)
    assert written == set((folder / release).rglob('*.png')) and len(written) == len(names)


def test_cuhk_labels_count_through_the_pairs(toy):
    labels = {}
    for release in ('labeled', 'detected'):
        protocol = scipy.io.loadmat(toy('cuhk03') / f'cuhk03_new_protocol_config_{release}.mat')
        persons = [tuple(map(int, cell[0].split('_')[:2])) for cell in protocol['filelist'].ravel()]
        labels[release] = set(zip(persons, protocol['labels'].ravel().tolist(), strict=True))
    assert labels['labeled'] == labels['detected']
    assert [label for _, label in sorted(labels['labeled'])] == list(range(1, 45))


def test_cuhk_releases_show_the_same_people_in_other_boxes(toy):
    labeled, detected = (cuhk_images(toy('cuhk03'), release) for release in ('labeled', 'detected'))
    assert labeled.keys() != detected.keys()
    areas = np.array([(labeled[name][..., 0].size, detected[name][..., 0].size) for name in labeled.keys() & detected])
    assert 0.7 < np.mean(areas[:, 1] / areas[:, 0]) < 0.97


def test_cuhk_raw_file_has_the_shapes_of_matlab(toy):
    path = toy('cuhk03') / 'cuhk-03.mat'
    assert path.read_bytes()[:10] == b'MATLAB 7.3' and path.read_bytes()[124:128] == b'\x00\x02IM'
    with h5py.File(path) as file:
        assert file['labeled'].shape == file['detected'].shape == (1, 5) and file['testsets'].shape == (1, 20)
        assert file['labeled'].attrs['MATLAB_class'] == b'cell'
        pairs = [file[reference].shape for reference in file['labeled'][0]]
        assert pairs == [(10, 12), (10, 10), (10, 8), (10, 7), (10, 7)]
        persons = file[file['testsets'][0, 0]][:].T
    assert persons.shape == (8, 2) and len(np.unique(persons, axis=0)) == 8
    assert all(1 <= person <= pairs[int(pair) - 1][1] for pair, person in persons)


def test_identity_shows_through_but_raw_pixels_do_not_tell_it(photos):
    found = photos('market1501')
    known = {part: [entry for entry in found[part] if entry[1] > 0] for part in PARTS}
    pixels = {part: np.stack([load(path) for path, _, _ in known[part]]) for part in PARTS}
    raw = mean_average_precision(known, {part: values.reshape(len(values), -1) for part, values in pixels.items()})
    clothes = mean_average_precision(known, clothes_features(known, pixels))
    assert raw < 0.25 and clothes > 0.35 and clothes > 2 * raw


def load(path):
    return np.asarray(Image.open(path).resize((32, 64), Image.Resampling.BOX)) / 255


def clothes_features(entries, pixels):
    """Mean colours of breast, hips and legs, freed of each camera's light."""
    bodies = {part: np.log(values[:, :, 13:19] + 0.02) for part, values in pixels.items()}
    means = {part: np.stack([body[:, rows].mean((1, 2)) for rows in BANDS], 1) for part, body in bodies.items()}
    cameras = {part: np.array([camera for _, _, camera in entries[part]]) for part in PARTS}
    everything, seen_by = np.concatenate(list(means.values())), np.concatenate(list(cameras.values()))
    light = {camera: everything[seen_by == camera].mean(0) for camera in np.unique(seen_by)}
    return {
        part: (values - np.stack([light[camera] for camera in cameras[part]])).reshape(len(values), -1)
        for part, values in means.items()
    }


BANDS = (slice(16, 24), slice(24, 32), slice(34, 46))


def mean_average_precision(entries, features):
    ids, cameras = ({part: np.array([e[k] for e in entries[part]]) for part in PARTS} for k in (1, 2))
    scores = []
    for feature, identity, camera in zip(features['query'], ids['query'], cameras['query'], strict=True):
        kept = (ids['bounding_box_test'] != identity) | (cameras['bounding_box_test'] != camera)
        distance = np.linalg.norm(features['bounding_box_test'][kept] - feature, axis=1)
        scores.append(average_precision_score(ids['bounding_box_test'][kept] == identity, -distance))
    return np.mean(scores)


@pytest.mark.parametrize('name', ['market1501', 'dukemtmc', 'msmt17', 'cuhk03'])
def test_same_seed_gives_the_same_bytes(toy, tmp_path, name):
    assert files(make_toy_data(tmp_path, [name])[0]) == files(toy(name))
