"""NYU depth v2 in mmsegmentation's layout, with the usual list files beside it."""

from pathlib import Path

import numpy as np

from toy_data.image_files import save_jpeg, save_png
from toy_data.indoor_scenes import FOCAL, draw_indoor_scene

IMAGES = dict(train=12, test=6)
SCENES = ('bathroom', 'bedroom', 'kitchen', 'living_room', 'office', 'study')
# The sensors of the real data see nothing along the border.
BLIND_BORDER = 8


def write(folder: Path, rng: np.random.Generator) -> None:
    """Write the dataset: depth in millimetres, 0 where it is unknown.

    Args:
        folder: Folder to create.
        rng: Source of all content.
    """
    for split, count in IMAGES.items():
        lines = []
        for number in range(count):
            name = f'{SCENES[number % len(SCENES)]}_{number:05}'
            image, depth = f'images/{split}/{name}.jpg', f'annotations/{split}/{name}.png'
            scene = draw_indoor_scene(rng)
            save_jpeg(folder / image, scene.image)
            save_png(folder / depth, _to_millimetres(scene.depth))
            lines.append(f'{image} {depth} {FOCAL}\n')
        (folder / f'nyu_{split}.txt').write_text(''.join(lines))


def _to_millimetres(depth: np.ndarray) -> np.ndarray:
    millimetres = np.zeros(depth.shape, np.uint16)
    inside = (slice(BLIND_BORDER, -BLIND_BORDER),) * 2
    millimetres[inside] = np.rint(depth[inside] * 1000)
    return millimetres
