"""Plots of the feature maps of video frames, with the same colours in all frames."""

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

from ..stage1.image_list import IMAGE_SUFFIXES
from ..stage1.views import prepare_image
from .plot import CosineClusters, PcaBasis, enlarge, fit_pca, mosaic, pca_tile

FIXED_LABELS = ('PCA, fixed basis', 'foreground PCA, fixed score')
LABELS = ('frame', 'PCA', 'clusters', 'component 1', 'component 2', 'component 3', 'foreground PCA', 'norm')


def read_frames(source: Path) -> Iterator[np.ndarray]:
    """Yield the frames of a video, or the images of a folder in natural order, as RGB ``[H, W, 3]``, 8 bit.

    A warning is logged if a video has fewer frames than its header states.

    Raises:
        UserError: If there is no frame, or an image cannot be read.
    """
    if source.is_dir():
        files = [file for file in sorted(source.iterdir(), key=natural_key) if file.suffix.lower() in IMAGE_SUFFIXES]
        if not files:
            raise UserError(f'{source} holds no image ({", ".join(IMAGE_SUFFIXES)})')
        yield from map(read_image, files)
        return
    if not source.is_file():
        raise UserError(f'{source} does not exist; give a video or a folder of images')
    capture = cv2.VideoCapture(str(source))
    try:
        found, frame = capture.read()
        if not found:
            raise UserError(f'{source} cannot be decoded as a video; give a video or a folder of images')
        count = 0
        while found:
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
            count += 1
            found, frame = capture.read()
        if count < (expected := int(capture.get(cv2.CAP_PROP_FRAME_COUNT))):
            print_log(
                f'{source} ends after {count} of {expected} frames: it may be truncated and its last frame corrupted; '
                'use a complete copy',
                'current',
                logging.WARNING,
            )
    finally:
        capture.release()


def softmax_norms(features: np.ndarray, temperature: float = 5.0) -> np.ndarray:
    """Return ``softmax(norm / temperature)`` over the tokens, scaled to [0, 1], ``[rows, columns]``.

    Args:
        features: ``[rows, columns, C]``.
        temperature: Divisor of the norms.
    """
    scaled = np.linalg.norm(features, axis=-1) / temperature
    weights = np.exp(scaled - scaled.max())
    return (weights - weights.min()) / max(float(np.ptp(weights)), 1e-12)


def foreground_score(features: np.ndarray, basis: PcaBasis) -> np.ndarray:
    """Return a linear score of tokens ``[rows, columns]`` that is positive in the foreground.

    It is the second component minus the centre of its range, which often separates object and background. With a fixed
    basis it is the same score for all videos.

    Args:
        features: ``[rows, columns, C]``.
        basis: Principal axes and ranges.
    """
    return features @ basis.axes[:, 1] - (basis.low[1] + basis.high[1]) / 2


class FramePlotter:
    """Plots the feature maps of frames; PCA and clusters are fitted on the first frame.

    Args:
        backbone: Network that returns the feature maps, in eval mode.
        neck: Denoiser, or None for raw features.
        size: Height and width that frames are resized to.
        mean: Mean of each input channel, on the scale 0 to 255.
        std: Standard deviation of each input channel, on the same scale.
        basis: Fixed PCA basis; its components and foreground are plotted beside those of the first frame.
        clusters: Number of clusters.
        device: Device of the networks.
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
        self.first_basis: PcaBasis | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the tiles."""
        return LABELS if self.basis is None else (*LABELS, *FIXED_LABELS)

    @torch.no_grad()
    def features(self, frame: np.ndarray) -> np.ndarray:
        """Return the feature map of a frame ``[H, W, 3]``, ``[rows, columns, C]``."""
        image = prepare_image(frame, self.size, self.mean, self.std).to(self.device)
        maps = self.backbone(image[None])
        output: Tensor = (maps if self.neck is None else self.neck(maps))[-1]
        output = output[0] if isinstance(output, tuple | list) else output
        return output[0].movedim(0, -1).float().cpu().numpy()

    def plot(self, frame: np.ndarray) -> np.ndarray:
        """Return the tiles of a frame side by side below their labels, RGB, 8 bit."""
        features = self.features(frame)
        if self.first_basis is None:
            self.first_basis = fit_pca(features)
            self.clusters = CosineClusters(features, self.count)
            bases = [basis for basis in (self.first_basis, self.basis) if basis is not None]
            self.foregrounds = [(basis, fit_pca(features, foreground_score(features, basis) > 0)) for basis in bases]
        colors = self.first_basis.colors(features)
        gray = [self._tile(colors[..., index], 'gray') for index in range(3)]
        foregrounds = [self._foreground_tile(features, *bases) for bases in self.foregrounds]
        tiles = [
            enlarge(frame, self.size, smooth=True),
            pca_tile(features, self.size, self.first_basis),
            self._tile(self.clusters(features), 'rainbow'),
            *gray,
            foregrounds[0],
            self._tile(softmax_norms(features), 'inferno'),
        ]
        if self.basis is not None:
            tiles += [pca_tile(features, self.size, self.basis), foregrounds[1]]
        return mosaic([tiles], self.labels)

    def _foreground_tile(self, features: np.ndarray, score_basis: PcaBasis, colors: PcaBasis) -> np.ndarray:
        """Plot the tokens of positive score; the others are black."""
        mask = (foreground_score(features, score_basis) > 0).astype(np.uint8)
        return pca_tile(features, self.size, colors) * enlarge(mask, self.size)[..., None]

    def _tile(self, values: np.ndarray, colormap: str) -> np.ndarray:
        colors = colormaps[colormap](values)[..., :3]
        return enlarge((255 * colors).round().astype(np.uint8), self.size)


def load_basis(file: Path) -> PcaBasis:
    """Return the PCA basis in a file of :func:`save_basis`.

    Raises:
        UserError: If the file is missing or not such a file.
    """
    try:
        with np.load(file, allow_pickle=False) as stored:
            return PcaBasis(stored['axes'], stored['low'], stored['high'])
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f'{file} is not a PCA basis: {error}; write one with --save-basis') from error


def save_basis(basis: PcaBasis, file: Path) -> None:
    """Write a PCA basis to an ``.npz`` file with the arrays ``axes``, ``low`` and ``high``."""
    np.savez(file, axes=basis.axes, low=basis.low, high=basis.high)
