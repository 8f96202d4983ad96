"""A few synthetic faces in the layout of CelebAMask-HQ as downloaded."""

from pathlib import Path

import numpy as np
from PIL import Image

SIZE = 32
# On either side of the two numbers that divide CelebA's splits.
ORIGINS = {0: 162_770, 1: 162_771, 3: 182_637, 2001: 182_638, 2002: 5}
BOXES = {
    'hair': (0, 4, 9, 28),
    'skin': (4, 6, 28, 26),
    'l_brow': (8, 8, 10, 14),
    'r_brow': (8, 18, 10, 24),
    'l_eye': (11, 8, 14, 14),
    'r_eye': (11, 18, 14, 24),
    'l_ear': (12, 3, 18, 7),
    'r_ear': (12, 25, 18, 29),
    'mouth': (21, 11, 26, 21),
    'u_lip': (21, 11, 23, 21),
    'l_lip': (24, 11, 26, 21),
    'neck': (26, 12, 31, 20),
}
# Label of each part in the label map, independent of the package.
VALUES = dict(
    skin=1, l_brow=2, r_brow=3, l_eye=4, r_eye=5, eye_g=6, l_ear=7, r_ear=8, ear_r=9, nose=10, mouth=11, u_lip=12,
    l_lip=13, neck=14, neck_l=15, cloth=16, hair=17, hat=18,
)  # fmt: skip


def box_mask(part: str, shift: int) -> np.ndarray:
    """Mask of a part, moved to the right by ``shift``."""
    top, left, bottom, right = BOXES[part]
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[top:bottom, left + shift : right + shift] = 255
    return mask


def expected_labels(face: int) -> np.ndarray:
    """Label map of a face, pixel by pixel the largest value among the parts there."""
    layers = [box_mask(part, face % 3).astype(int) // 255 * VALUES[part] for part in BOXES]
    return np.max(layers, axis=0).astype(np.uint8)


def write_raw(root: Path) -> Path:
    """Write images of twice the masks' size, masks and mapping; return ``root``."""
    (root / 'CelebA-HQ-img').mkdir(parents=True)
    lines = ['idx    orig_idx    orig_file\n']
    for face, origin in ORIGINS.items():
        pixels = np.random.default_rng(face).integers(0, 256, (SIZE * 2, SIZE * 2, 3), np.uint8)
        Image.fromarray(pixels).save(root / 'CelebA-HQ-img' / f'{face}.jpg')
        folder = root / 'CelebAMask-HQ-mask-anno' / str(face // 2000)
        folder.mkdir(parents=True, exist_ok=True)
        for part in BOXES:
            image = Image.fromarray(box_mask(part, face % 3)).convert(('RGB', 'L', '1')[face % 3])
            image.save(folder / f'{face:05d}_{part}.png')
        lines.append(f'{face:<7}{origin:<12}{origin + 1:06d}.jpg\n')
    (root / 'CelebA-HQ-to-CelebA-mapping.txt').write_text(''.join(lines))
    return root
