"""Reading image files, with an error for truncated ones."""

from pathlib import Path

import mmcv
import numpy as np

from .unreadable import UnreadableSample


def read_image(path: str | Path) -> np.ndarray:
    """Return an image as RGB, ``[H, W, 3]``, 8 bit, decoded as mmcv's ``LoadImageFromFile`` does.

    Decoded from memory, a truncated JPEG is refused; OpenCV's ``imread`` fills its missing part with grey.

    Raises:
        UnreadableSample: If the file is missing, truncated or no image.
    """
    if not Path(path).is_file():
        raise UnreadableSample(f'image {path} does not exist', str(path))
    content = Path(path).read_bytes()
    image = mmcv.imfrombytes(content, channel_order='bgr', backend='cv2') if content else None
    if image is None:
        raise UnreadableSample(f'image {path} cannot be read: the file is truncated, damaged or no image', str(path))
    return np.ascontiguousarray(image[..., ::-1])
