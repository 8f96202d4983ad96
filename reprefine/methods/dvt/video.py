"""Feature maps of the frames of a video, in colours that stay the same from frame to frame."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from matplotlib import colormaps
from torch import Tensor, nn

from reprefine.engine.errors import UserError

from .data import prepare_image, read_image
from .plot import CosineClusters, PcaBasis, enlarge, fit_pca, mosaic, pca_tile

LABELS = ('frame', 'PCA', 'clusters', 'component 1', 'component 2', 'component 3', 'foreground PCA', 'norm')
SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp')


def read_frames(source: Path) -> Iterator[np.ndarray]:
    """Yield the frames of a video, or the images of a folder by name, as RGB ``[H, W, 3]``, 8 bit.

    Raises:
        UserError: If there is no frame.
    """
    if source.is_dir():
        files = [file for file in sorted(source.iterdir()) if file.suffix.lower() in SUFFIXES]
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
        while found:
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
            found, frame = capture.read()
    finally:
        capture.release()


def softmax_norms(features: np.ndarray, temperature: float = 5.0) -> np.ndarray:
    """Return the norms of tokens through ``softmax(norm / temperature)`` over the map, stretched to [0, 1]."""
    scaled = np.linalg.norm(features, axis=-1) / temperature
    share = np.exp(scaled - scaled.max())
    return (share - share.min()) / max(float(np.ptp(share)), 1e-12)


class FramePainter:
    """Draws the maps of frames; colours and groups are those of the first frame.

    Args:
        backbone: Network that gives the features, in eval mode.
        neck: What denoises them, or None.
        size: Height and width of the frames as the network sees them.
        mean: Of its input, on the scale 0 to 255.
        std: Likewise.
        basis: Axes of colour fitted elsewhere, drawn beside those of the first frame.
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
        return LABELS if self.basis is None else (*LABELS, 'PCA, fixed basis')

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
            self.front = fit_pca(features, self._foreground(features))
        colors = self.first.colors(features)
        grey = [self._tile(colors[..., index], 'gray') for index in range(3)]
        front = pca_tile(features, self.size, self.front) * self._mask(features)
        tiles = [
            enlarge(frame, self.size, smooth=True),
            pca_tile(features, self.size, self.first),
            self._tile(self.clusters(features), 'rainbow'),
            *grey,
            front,
            self._tile(softmax_norms(features), 'inferno'),
        ]
        if self.basis is not None:
            tiles.append(pca_tile(features, self.size, self.basis))
        return mosaic([tiles], self.labels)

    def _foreground(self, features: np.ndarray) -> np.ndarray:
        """Return the tokens on the upper half of the second component, ``[rows, columns]``."""
        return self.first.colors(features)[..., 1] > 0.5

    def _mask(self, features: np.ndarray) -> np.ndarray:
        return enlarge(self._foreground(features).astype(np.uint8), self.size)[..., None]

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
