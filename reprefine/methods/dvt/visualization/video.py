"""Feature maps of the frames of a video, in colours that stay the same from frame to frame."""

import logging
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from matplotlib import colormaps
from mmengine.logging import print_log
from torch import Tensor, nn

from reprefine.engine.data_checks.images import read_image
from reprefine.engine.errors import UserError
from reprefine.engine.files import natural_key

from ..stage1.views import prepare_image
from .plot import CosineClusters, PcaBasis, enlarge, fit_pca, mosaic, pca_tile

FIXED_LABELS = ('PCA, fixed basis', 'foreground PCA, fixed score')
LABELS = ('frame', 'PCA', 'clusters', 'component 1', 'component 2', 'component 3', 'foreground PCA', 'norm')
SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp')


def read_frames(source: Path) -> Iterator[np.ndarray]:
    """Yield the frames of a video, or the images of a folder by name, numbers by value, as RGB ``[H, W, 3]``, 8 bit.

    A video that ends before the number of frames that its header tells is warned of.

    Raises:
        UserError: If there is no frame, or an image cannot be read.
    """
    if source.is_dir():
        files = [file for file in sorted(source.iterdir(), key=natural_key) if file.suffix.lower() in SUFFIXES]
        if not files:
            raise UserError(f'{source} holds no image')
        yield from map(read_image, files)
        return
    if not source.is_file():
        raise UserError(f'{source} is neither a video nor a folder of images')
    capture = cv2.VideoCapture(str(source))
    try:
        found, frame = capture.read()
        if not found:
            raise UserError(f'{source} cannot be decoded as a video')
        count = 0
        while found:
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
            count += 1
            found, frame = capture.read()
        if count < (told := int(capture.get(cv2.CAP_PROP_FRAME_COUNT))):
            print_log(
                f'{source} ends after {count} of {told} frames: it may be truncated, and its last frame wrong; '
                'use a whole copy',
                'current',
                logging.WARNING,
            )
    finally:
        capture.release()


def softmax_norms(features: np.ndarray, temperature: float = 5.0) -> np.ndarray:
    """Return the norms of tokens through ``softmax(norm / temperature)`` over the map, stretched to [0, 1]."""
    scaled = np.linalg.norm(features, axis=-1) / temperature
    share = np.exp(scaled - scaled.max())
    return (share - share.min()) / max(float(np.ptp(share)), 1e-12)


def front_score(features: np.ndarray, basis: PcaBasis) -> np.ndarray:
    """Return a linear score of tokens ``[rows, columns]`` that is positive in the foreground.

    It is how far the second component lies above the middle of its range, which often tells object from background.
    With a basis that was fitted elsewhere it is the same score for all videos.

    Args:
        features: ``[rows, columns, C]``.
        basis: Axes and ranges.
    """
    return features @ basis.axes[:, 1] - (basis.low[1] + basis.high[1]) / 2


class FramePainter:
    """Draws the maps of frames; colours and groups are those of the first frame.

    Args:
        backbone: Network that gives the features, in eval mode.
        neck: What denoises them, or None.
        size: Height and width of the frames as the network sees them.
        mean: Of its input, on the scale 0 to 255.
        std: Likewise.
        basis: Axes of colour fitted elsewhere; components and foreground by these are drawn beside those by the axes of
            the first frame.
        clusters: Number of groups.
        device: Where to compute.
    """

    def __init__(
        self,
        backbone: nn.Module,
        neck: nn.Module | None,
        size: tuple[int, int],
        mean: list[float],
        std: list[float],
        basis: PcaBasis | None = None,
        clusters: int = 8,
        device: torch.device | str = 'cpu',
    ):
        self.backbone, self.neck, self.size, self.device = backbone, neck, size, device
        self.mean, self.std, self.basis, self.count = mean, std, basis, clusters
        self.first: PcaBasis | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the tiles."""
        return LABELS if self.basis is None else (*LABELS, *FIXED_LABELS)

    @torch.no_grad()
    def features(self, frame: np.ndarray) -> np.ndarray:
        """Return the map of a frame, ``[rows, columns, C]``."""
        image = prepare_image(frame, self.size, self.mean, self.std).to(self.device)
        maps = self.backbone(image[None])
        output: Tensor = (maps if self.neck is None else self.neck(maps))[-1]
        output = output[0] if isinstance(output, tuple | list) else output
        return output[0].movedim(0, -1).float().cpu().numpy()

    def paint(self, frame: np.ndarray) -> np.ndarray:
        """Return the tiles of a frame side by side under their names, as RGB."""
        features = self.features(frame)
        if self.first is None:
            self.first = fit_pca(features)
            self.clusters = CosineClusters(features, self.count)
            bases = [basis for basis in (self.first, self.basis) if basis is not None]
            self.fronts = [(basis, fit_pca(features, front_score(features, basis) > 0)) for basis in bases]
        colors = self.first.colors(features)
        grey = [self._tile(colors[..., index], 'gray') for index in range(3)]
        fronts = [self._front_tile(features, *front) for front in self.fronts]
        tiles = [
            enlarge(frame, self.size, smooth=True),
            pca_tile(features, self.size, self.first),
            self._tile(self.clusters(features), 'rainbow'),
            *grey,
            fronts[0],
            self._tile(softmax_norms(features), 'inferno'),
        ]
        if self.basis is not None:
            tiles += [pca_tile(features, self.size, self.basis), fronts[1]]
        return mosaic([tiles], self.labels)

    def _front_tile(self, features: np.ndarray, score: PcaBasis, colors: PcaBasis) -> np.ndarray:
        """Draw the tokens whose score is positive, and black."""
        mask = (front_score(features, score) > 0).astype(np.uint8)
        return pca_tile(features, self.size, colors) * enlarge(mask, self.size)[..., None]

    def _tile(self, values: np.ndarray, colormap: str) -> np.ndarray:
        colors = colormaps[colormap](values)[..., :3]
        return enlarge((255 * colors).round().astype(np.uint8), self.size)


def load_basis(file: Path) -> PcaBasis:
    """Return the axes of colour that :func:`save_basis` has written.

    Raises:
        UserError: If the file is missing or holds something else.
    """
    try:
        with np.load(file, allow_pickle=False) as stored:
            return PcaBasis(stored['axes'], stored['low'], stored['high'])
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f'{file} is no basis of colours: {error}') from error


def save_basis(basis: PcaBasis, file: Path) -> None:
    """Write axes of colour to an ``.npz`` file."""
    np.savez(file, axes=basis.axes, low=basis.low, high=basis.high)
