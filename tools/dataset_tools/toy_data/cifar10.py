"""CIFAR-10, python version: real digits in the place of the ten classes."""

import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np

from toy_data.class_images import draw_class_image

FOLDER = 'cifar-10-batches-py'
CLASSES = ('airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship', 'truck')
TRAIN_BATCHES, TRAIN_PER_CLASS, TEST_PER_CLASS = 5, 60, 20


class Python2Pickler(pickle._Pickler):
    """Writes bytes as the ``str`` of Python 2, as in the real files: readers ask for them as bytes or as latin-1."""

    dispatch = dict(pickle._Pickler.dispatch)

    def save_bytes(self, text: bytes) -> None:
        """Write a string of Python 2."""
        self.write(pickle.BINSTRING + struct.pack('<i', len(text)) + text)
        self.memoize(text)

    dispatch[bytes] = save_bytes


def write(folder: Path, rng: np.random.Generator) -> None:
    """Write the dataset.

    Args:
        folder: Folder to create.
        rng: Source of all content.
    """
    (folder / FOLDER).mkdir(parents=True)
    train = rng.permutation(np.repeat(np.arange(len(CLASSES)), TRAIN_PER_CLASS))
    for number, labels in enumerate(np.split(train, TRAIN_BATCHES), 1):
        title = f'training batch {number} of {TRAIN_BATCHES}'
        _dump(folder / FOLDER / f'data_batch_{number}', _batch(rng, labels, title))
    test = rng.permutation(np.repeat(np.arange(len(CLASSES)), TEST_PER_CLASS))
    _dump(folder / FOLDER / 'test_batch', _batch(rng, test, 'testing batch 1 of 1'))
    names = [name.encode() for name in CLASSES]
    meta = {b'num_cases_per_batch': len(train) // TRAIN_BATCHES, b'label_names': names, b'num_vis': 3072}
    _dump(folder / FOLDER / 'batches.meta', meta)


def _batch(rng: np.random.Generator, labels: np.ndarray, title: str) -> dict[bytes, Any]:
    images = [draw_class_image(rng, int(label), (32, 32)).image for label in labels]
    return {
        b'batch_label': title.encode(),
        b'labels': labels.tolist(),
        b'data': np.stack(images).transpose(0, 3, 1, 2).reshape(len(labels), -1),
        b'filenames': [f'{CLASSES[label]}_s_{number:06}.png'.encode() for number, label in enumerate(labels)],
    }


def _dump(path: Path, content: dict[bytes, Any]) -> None:
    with path.open('wb') as file:
        Python2Pickler(file, protocol=2).dump(content)
