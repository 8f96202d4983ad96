"""Cameras of a person re-identification set: where they stand and how they see."""

from dataclasses import dataclass

import cv2
import numpy as np

_VIEWS = ('front', 'back', 'left', 'right')
_SCENE = (96, 256)  # rows, columns of the scene of a camera; shown with two pixels a cell


@dataclass(frozen=True)
class Camera:
    """One camera: its usual view of people, the scene behind them and its light."""

    view: str
    scene: np.ndarray  # RGB in [0, 1], float32
    gain: np.ndarray  # exposure times colour cast, for each channel
    gamma: float
    blur: float  # standard deviation in pixels
    noise: float  # standard deviation of grey values in [0, 1]

    def draw_view(self, rng: np.random.Generator) -> str:
        """Return from where a person is seen: the usual view, or now and then another."""
        return self.view if rng.random() < 0.75 else str(rng.choice(_VIEWS))

    def background(self, rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
        """Return a stretch of the scene, [height, width, 3] in [0, 1]."""
        start = rng.integers(_SCENE[1] - _SCENE[0] // 2)
        return cv2.resize(self.scene[:, start : start + _SCENE[0] // 2], size)

    def expose(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Turn the light of a scene, RGB in [0, 1], into the camera's photo, uint8."""
        flicker = np.float32(self.gain * rng.uniform(0.92, 1.08))
        light = cv2.GaussianBlur(np.clip(image * flicker, 0, 1) ** self.gamma, (0, 0), self.blur)
        light += self.noise * rng.standard_normal(image.shape, dtype=np.float32)
        return np.rint(np.clip(light, 0, 1) * 255).astype(np.uint8)


def draw_cameras(rng: np.random.Generator, count: int) -> list[Camera]:
    """Draw cameras; neighbours in the list differ in their usual view."""
    return [
        Camera(
            view=_VIEWS[number % len(_VIEWS)],
            scene=_draw_scene(rng),
            gain=rng.uniform(0.55, 1.25) * rng.uniform(0.82, 1.18, 3),
            gamma=rng.uniform(0.8, 1.25),
            blur=rng.uniform(0.3, 0.9),
            noise=rng.uniform(0.01, 0.03),
        )
        for number in range(count)
    ]


def draw_visits(rng: np.random.Generator, cameras: int, images: int) -> np.ndarray:
    """Draw the cameras, counted from 0, of one identity's images: two to five of them, about equally often."""
    seen = rng.choice(cameras, size=min(int(rng.integers(2, 6)), cameras, images), replace=False)
    return np.sort(np.resize(seen, images))


def _draw_scene(rng: np.random.Generator) -> np.ndarray:
    """Draw a wall with windows or bars above a tiled ground, in uneven light."""
    rows, columns = np.mgrid[: _SCENE[0], : _SCENE[1]]
    wall, ground, detail = rng.uniform(0.15, 0.8, (3, 1)) + rng.uniform(-0.12, 0.12, (3, 3))
    horizon, width, height = rng.integers(40, 75), rng.integers(8, 40), rng.integers(8, 30)
    scene = np.where((rows < horizon)[..., None], wall, ground)
    openings = (columns % width < width * rng.uniform(0.2, 0.6)) & (rows % height < height * rng.uniform(0.4, 1.0))
    scene[openings & (rows < horizon)] = detail
    joints = ((columns + rows) % width < 2) | (rows % height < 1)
    scene[joints & (rows >= horizon)] *= 0.75
    patches = rng.normal(0, 0.08, (6, 16, 1)) + rng.normal(0, 0.025, (6, 16, 3))
    light = cv2.resize(patches, _SCENE[::-1], interpolation=cv2.INTER_CUBIC)
    return np.clip(scene + light + rng.normal(0, 0.02, scene.shape), 0, 1).astype(np.float32)
