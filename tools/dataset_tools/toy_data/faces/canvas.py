"""Images of faces: paints layers, records landmarks and part masks, and renders the result."""

from dataclasses import dataclass

import cv2
import numpy as np

from toy_data.textures import color, texture

from .appearance import Face
from .features import brows, eyes, mouth, nose
from .head import accessories, body, ears, skin
from .layer import Layer, PosedFace

_OVERSAMPLING = 2
_BACK_TO_FRONT = (body, ears, skin, brows, eyes, nose, mouth, accessories)


@dataclass(frozen=True)
class Light:
    """How an image is taken: exposure, light from one side, and sharpness."""

    gain: float = 1.0
    side: float = 0.0  # relative change of brightness from the middle to the image's right edge
    blur: float = 0.0  # standard deviation in pixels


@dataclass(frozen=True)
class PaintedFace:
    """Ground truth of a face in an image.

    Attributes:
        landmarks: Pixels [98, 2] as (x, y); pixel centres have whole numbers.
        masks: Visible area of each part, uint8 of 0 and 1, at twice the image's resolution.
    """

    landmarks: np.ndarray
    masks: dict[str, np.ndarray]

    def part_masks(self, size: tuple[int, int]) -> dict[str, np.ndarray]:
        """Return the parts that can be seen, as boolean masks of (width, height) ``size``."""
        shares = {part: cv2.resize(255 * mask, size, interpolation=cv2.INTER_AREA) for part, mask in self.masks.items()}
        return {part: share > 127 for part, share in shares.items() if (share > 127).any()}


class FaceCanvas:
    """An image to which faces are added.

    Args:
        size: Width and height in pixels.
        rng: Draws the background.
    """

    def __init__(self, size: tuple[int, int], rng: np.random.Generator) -> None:
        self.size = size
        rgb = color(rng, (0.3, 0.8), saturation=(0, 0.4))
        background = np.clip(texture(rng, (size[1] // 2, size[0] // 2), rgb, cloud=8) / 255, 0, 1)
        self._canvas = cv2.resize(background, None, fx=2 * _OVERSAMPLING, fy=2 * _OVERSAMPLING)

    def add(self, face: Face, center: tuple[float, float], half_width: float) -> PaintedFace:
        """Paint a face.

        Args:
            face: What to paint.
            center: Point between the eyes, pixels.
            half_width: Half the width of an average face, pixels.
        """
        posed, masks = PosedFace(face), {}
        origin, scale = (np.asarray(center) + 0.5) * _OVERSAMPLING - 0.5, half_width * _OVERSAMPLING
        covered = np.zeros(self._canvas.shape[:2], np.uint8)
        for layer in (layer for group in _BACK_TO_FRONT for layer in group(posed)):
            outlines, within = (
                [np.rint(outline * scale + origin).astype(np.int32) for outline in group]
                for group in (layer.outlines, layer.within)
            )
            self._paint(layer, outlines, within)
            _mark(layer, outlines, masks, covered)
        rounding = 1 - 0.2 * np.clip((np.arange(len(covered[0])) - origin[0]) / scale, -1.2, 1.2) ** 2
        self._canvas *= np.where(covered, rounding.astype(np.float32), 1)[..., None]
        return PaintedFace(posed.landmarks * half_width + center, masks)

    def render(self, light: Light, rng: np.random.Generator) -> np.ndarray:
        """Return the image as RGB, uint8 [height, width, 3]."""
        image = cv2.resize(self._canvas, self.size, interpolation=cv2.INTER_AREA)
        image *= (light.gain * (1 + light.side * np.linspace(-1, 1, self.size[0], dtype=np.float32)))[:, None]
        if light.blur:
            image = cv2.GaussianBlur(image, (0, 0), light.blur)
        image += 0.012 * rng.standard_normal(image.shape, dtype=np.float32)
        return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)

    def _paint(self, layer: Layer, outlines: list[np.ndarray], within: list[np.ndarray]) -> None:
        if layer.alpha == 1 and not within:
            cv2.fillPoly(self._canvas, outlines, layer.color.tolist())
            return
        area = cv2.fillPoly(np.zeros(self._canvas.shape[:2], np.uint8), outlines, 1)
        if within:
            area &= cv2.fillPoly(np.zeros_like(area), within, 1)
        pixels = np.nonzero(area)
        self._canvas[pixels] += layer.alpha * (layer.color - self._canvas[pixels])


def _mark(layer: Layer, outlines: list[np.ndarray], masks: dict[str, np.ndarray], covered: np.ndarray) -> None:
    """Record in the masks which parts a layer shows and hides."""
    cv2.fillPoly(covered, outlines, 1)
    for mask in masks.values() if layer.hides else ():
        cv2.fillPoly(mask, outlines, 0)
    if layer.part is not None:
        cv2.fillPoly(masks.setdefault(layer.part, np.zeros_like(covered)), outlines, 1)
