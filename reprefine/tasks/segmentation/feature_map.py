"""Feature maps that were stored beforehand, in the place of images."""

from pathlib import Path
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.model import BaseModule
from PIL import Image
from torch import Tensor

from reprefine.engine.data_checks.unreadable import UnreadableSample
from reprefine.registry import MODELS, TRANSFORMS


@TRANSFORMS.register_module()
class LoadFeatureMap(BaseTransform):
    """Loads the feature map of an image instead of the image.

    The map of ``…/VOC2012/JPEGImages/2007_000032.jpg`` is ``<root>/VOC2012/JPEGImages/2007_000032.jpg.npy``, of shape
    (h, w, C) or (1, h, w, C). Of the image only the size is read.

    Args:
        root: Folder of the maps.
        levels: Number of parts of the image's path, from the end, that name the map.
    """

    def __init__(self, root: str, levels: int = 3):
        self.root = Path(root)
        self.levels = levels

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Set ``img``, float32 of shape (h, w, C), and the sizes of map and image.

        Raises:
            UnreadableSample: If the map is missing or no such array.
        """
        image = Path(results['img_path'])
        file = self.root / Path(*image.parts[-self.levels :]).with_name(f'{image.name}.npy')
        features = _read(file)
        with Image.open(image) as opened:
            results['ori_shape'] = opened.size[::-1]
        return results | dict(img=features, img_shape=features.shape[:2])


def _read(file: Path) -> np.ndarray:
    try:
        features = np.load(file, allow_pickle=False).astype(np.float32)
    except FileNotFoundError as error:
        raise UnreadableSample(
            f'feature map {file} does not exist: tools/denoise_images.py writes it', str(file)
        ) from error
    except (OSError, ValueError, EOFError) as error:
        raise UnreadableSample(
            f'feature map {file} is damaged ({error}): delete it and make it anew', str(file)
        ) from error
    features = features[0] if features.ndim == 4 and len(features) == 1 else features
    if features.ndim != 3:
        raise UnreadableSample(f'feature map {file} has shape {features.shape}, not (h, w, C)', str(file))
    return features


@MODELS.register_module()
class StoredFeatures(BaseModule):
    """The backbone of a model whose input are feature maps already."""

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """Return the maps (B, C, h, w) as the only level."""
        return (x,)
