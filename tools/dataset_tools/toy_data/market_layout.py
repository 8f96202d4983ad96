"""The folders of Market-1501, which DukeMTMC-reID took over: one file a photo, all facts in its name."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from toy_data.image_files import save_jpeg
from toy_data.people import Camera, draw_person, draw_size, draw_visits, render_person

FOLDERS = ('bounding_box_train', 'query', 'bounding_box_test')


@dataclass(frozen=True)
class MarketWriter:
    """Writes the photos of identities into the folders of Market-1501.

    Args:
        folder: Root of the dataset.
        cameras: The cameras of the set.
        name: Gives a file name from identity, camera (from 1), frame number and the box's number in its frame.
        heights: Smallest and largest image height in pixels; images are half as wide.
        images: Photos of an identity.
    """

    folder: Path
    cameras: list[Camera]
    name: Callable[[int, int, int, int], str]
    heights: tuple[int, int]
    images: int = 8

    def write_identity(self, identity: int, subset: str, rng: np.random.Generator) -> None:
        """Draw a person and write its photos.

        Args:
            identity: Number for the file names.
            subset: ``train``; ``test``, where the first photo of each of two cameras becomes a query; or
                ``distractor``, all in the gallery.
            rng: Source of all random draws.
        """
        person, visits = draw_person(rng), draw_visits(rng, len(self.cameras), self.images)
        queries = first_of_each(visits)[:2] if subset == 'test' else []
        frames = 25 * np.sort(rng.choice(4000, len(visits), replace=False)) + 1
        for number, (camera, frame) in enumerate(zip(visits, frames, strict=True)):
            target = 'query' if number in queries else FOLDERS[0] if subset == 'train' else FOLDERS[2]
            photo = render_person(person, self.cameras[camera], rng, draw_size(self.heights, rng))
            name = self.name(identity, camera + 1, frame, 0 if target == 'query' else number + 1)
            save_jpeg(self.folder / target / name, photo)


def first_of_each(values: np.ndarray) -> np.ndarray:
    """Return the positions at which each value of ``values`` appears first."""
    return np.unique(values, return_index=True)[1]
