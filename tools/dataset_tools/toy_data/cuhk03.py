"""CUHK03 in toy size: the raw release and the prepared folders, holding the same images.

Raw release, ``cuhk-03.mat`` (MATLAB v7.3, so HDF5; MATLAB's column order reverses every shape seen by h5py):

* ``labeled`` and ``detected``, shape [1, 5]: one object reference to each camera pair. A pair is a [10, P] array of
  object references (transposed: [P, 10]); row p is a person, columns 0-4 come from camera 1, columns 5-9 from camera 2.
* An image is stored as uint8 [3, W, H]; its transpose is [H, W, 3] in RGB. A missing image is MATLAB's empty matrix: a
  uint64 array of shape [2] (the dimensions 0 x 0) with the attribute ``MATLAB_empty`` = 1.
* ``testsets``, shape [1, 20]: references to float64 [2, N] arrays (transposed: rows of 1-based camera pair and person).

New protocol, ``cuhk03_new_protocol_config_{labeled,detected}.mat`` (``scipy.io``); every index counts from 1:

* ``filelist`` [M, 1] cell of names ``{pair}_{person:03d}_{camera}_{column:02d}.png`` with pair 1-5, person = row + 1
  within its pair, camera 1 or 2 and column 1-10: ``1_001_1_01.png``. Only images that exist are listed; the two
  releases miss different ones.
* ``labels`` [M, 1] the identity (counted through all pairs, from 1) and ``camId`` [M, 1] the camera (1 or 2).
* ``train_idx``, ``query_idx``, ``gallery_idx`` [K, 1]: 1-based positions in ``filelist``. Identities of train and test
  differ; query and gallery are disjoint; each test identity has one query for each of its two cameras.

Prepared, ``{labeled,detected}/{bounding_box_train,query,bounding_box_test}``: ``{label:04d}_c{camId}_{i}.png``, where i
is the 1-based position in that release's ``filelist`` (``0001_c1_1.png``). ``train_idx`` gives bounding_box_train,
``query_idx`` query and ``gallery_idx`` bounding_box_test. PNG keeps the pixels of the raw release exactly.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from toy_data.image_files import save_png
from toy_data.market_layout import first_of_each
from toy_data.matlab import Mat73Writer, save_mat5
from toy_data.people import Camera, draw_cameras, draw_person, draw_size, render_person

_PAIRS = (12, 10, 8, 7, 7)  # persons seen by each camera pair
_TRAIN = 36
_RELEASES = {'labeled': 0.02, 'detected': 0.1}  # largest share of an image that a box cuts off at each side


@dataclass(frozen=True)
class Photo:
    """One image with its position in the release; all numbers count from 1."""

    pair: int
    person: int
    column: int
    label: int
    image: np.ndarray

    @property
    def camera(self) -> int:
        """Camera of the pair, 1 or 2."""
        return 1 if self.column <= 5 else 2

    @property
    def name(self) -> str:
        """Name in the new protocol's file list."""
        return f'{self.pair}_{self.person:03d}_{self.camera}_{self.column:02d}.png'


def write(folder: Path, rng: np.random.Generator) -> None:
    """Write the raw release, the new protocol's index files and the prepared folders.

    Args:
        folder: Root of the dataset; created if missing.
        rng: Source of all random draws.
    """
    folder.mkdir(parents=True, exist_ok=True)
    releases = _draw_photos(rng)
    train = rng.permutation(sum(_PAIRS))[:_TRAIN] + 1
    testsets = [_draw_testset(rng) for _ in range(20)]
    _write_raw(folder / 'cuhk-03.mat', releases, testsets)
    for release, photos in releases.items():
        indices = _split(photos, train)
        _write_protocol(folder / f'cuhk03_new_protocol_config_{release}.mat', photos, indices)
        _write_prepared(folder / release, photos, indices)


def _draw_photos(rng: np.random.Generator) -> dict[str, list[Photo]]:
    """Draw the photos of both releases, ordered by pair, person and column."""
    releases = {release: [] for release in _RELEASES}
    label = 0
    for pair, persons in enumerate(_PAIRS, start=1):
        cameras = draw_cameras(rng, 2)
        for person in range(1, persons + 1):
            label += 1
            scenes = _draw_scenes(cameras, rng)
            for release, trim in _RELEASES.items():
                kept = sorted(scenes.keys() - _draw_missing(rng))
                boxes = [_crop(scenes[column], trim, rng) for column in kept]
                releases[release] += [
                    Photo(pair, person, column, label, box) for column, box in zip(kept, boxes, strict=True)
                ]
    return releases


def _draw_scenes(cameras: list[Camera], rng: np.random.Generator) -> dict[int, np.ndarray]:
    """Draw the ten wide photos of a person by column."""
    person = draw_person(rng)
    return {
        column: render_person(person, cameras[column > 5], rng, draw_size((60, 76), rng), jitter=0.015)
        for column in range(1, 11)
    }


def _draw_missing(rng: np.random.Generator) -> set[int]:
    """Draw the columns without an image: at most one for each camera, as a person of the release has 4.8 a camera."""
    return {int(column) for first in (1, 6) for column in rng.choice(np.arange(first, first + 5), rng.integers(2))}


def _crop(image: np.ndarray, trim: float, rng: np.random.Generator) -> np.ndarray:
    height, width = image.shape[:2]
    (top, bottom), (left, right) = (np.rint(rng.uniform(0, trim, 2) * side).astype(int) for side in (height, width))
    return np.ascontiguousarray(image[top : height - bottom, left : width - right])


def _draw_testset(rng: np.random.Generator) -> np.ndarray:
    """Draw a test set of the old protocol: rows of camera pair and person."""
    everyone = [(pair, person) for pair, persons in enumerate(_PAIRS, 1) for person in range(1, persons + 1)]
    return np.array(everyone, float)[rng.permutation(len(everyone))[: len(everyone) - _TRAIN]]


def _split(photos: list[Photo], train: np.ndarray) -> dict[str, np.ndarray]:
    """Return 1-based positions of training, query and gallery photos."""
    labels = np.array([photo.label for photo in photos])
    first = first_of_each(10 * labels + [photo.camera for photo in photos])
    trained, chosen = np.isin(labels, train), np.isin(np.arange(len(photos)), first)
    masks = {'train_idx': trained, 'query_idx': ~trained & chosen, 'gallery_idx': ~trained & ~chosen}
    return {name: np.flatnonzero(mask) + 1 for name, mask in masks.items()}


def _write_prepared(folder: Path, photos: list[Photo], indices: dict[str, np.ndarray]) -> None:
    for name, part in zip(indices, ('bounding_box_train', 'query', 'bounding_box_test'), strict=True):
        for index in indices[name]:
            photo = photos[index - 1]
            save_png(folder / part / f'{photo.label:04d}_c{photo.camera}_{index}.png', photo.image)


def _write_protocol(path: Path, photos: list[Photo], indices: dict[str, np.ndarray]) -> None:
    columns = {name: index.astype(float)[:, None] for name, index in indices.items()}
    columns['labels'] = np.array([[photo.label] for photo in photos], float)
    columns['camId'] = np.array([[photo.camera] for photo in photos], float)
    columns['filelist'] = np.array([[photo.name] for photo in photos], object)
    save_mat5(path, columns)


def _write_raw(path: Path, releases: dict[str, list[Photo]], testsets: list[np.ndarray]) -> None:
    with Mat73Writer(path) as file:
        for release, photos in releases.items():
            images = {(photo.pair, photo.person, photo.column): photo.image for photo in photos}
            pairs = []
            for pair, persons in enumerate(_PAIRS, 1):
                keys = [[(pair, person, column) for column in range(1, 11)] for person in range(1, persons + 1)]
                pairs.append(file.add_cell([[file.add_array(images.get(key)) for key in row] for row in keys]))
            file.add_cell([[pair] for pair in pairs], release)
        file.add_cell([[file.add_array(testset)] for testset in testsets], 'testsets')
