"""Loading of stored feature maps."""

from pathlib import Path
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from PIL import Image

from reprefine.engine.data_checks.unreadable import UnreadableSample
from reprefine.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LoadFeatureMap(BaseTransform):
    """Load the stored feature map of an image instead of the image.

    The map of ``…/VOC2012/JPEGImages/2007_000032.jpg`` is ``<root>/VOC2012/JPEGImages/2007_000032.jpg.npy``, of shape
    (h, w, C) or (1, h, w, C). Only the size of the image is read.

    Args:
        root: Folder of the feature maps.
        levels: Number of last parts of the image's path that make up the path of the map.
    """

    def __init__(self, root: str, levels: int = 3):
        self.root = Path(root)
        self.levels = levels

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Set ``img``, float32 of shape (h, w, C), ``img_shape`` and ``ori_shape``.

        Raises:
            UnreadableSample: If the map is missing, corrupted or of another shape.
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
            f'feature map {file} does not exist: write it with tools/denoise_images.py', str(file)
        ) from error
    except (OSError, ValueError, EOFError) as error:
        raise UnreadableSample(
            f'feature map {file} is corrupted ({error}): delete it and write it again', str(file)
        ) from error
    features = features[0] if features.ndim == 4 and len(features) == 1 else features
    if features.ndim != 3:
        raise UnreadableSample(
            f'feature map {file} has shape {features.shape}, not (h, w, C): write it again', str(file)
        )
    return features
