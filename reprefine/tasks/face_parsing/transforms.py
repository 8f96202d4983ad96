"""What CelebAMask-HQ needs on top of mmseg's transforms."""

import mmcv
from mmcv.transforms import BaseTransform
from mmseg.datasets.transforms import RandomFlip
from PIL import Image

from reprefine.registry import TRANSFORMS


@TRANSFORMS.register_module()
class ResizeToMask(BaseTransform):
    """Resize the image to the size of its label map and call that its original size.

    CelebAMask-HQ has images of 1024 pixels a side and masks of 512; without this, predictions would be compared with
    labels of another size. An image without a label map, as in inference, stays as it is. The place of this transform
    is right after the one that loads the image.
    """

    def transform(self, results: dict) -> dict:
        """Return ``results`` with new ``img``, ``img_shape`` and ``ori_shape``."""
        if 'seg_map_path' in results:
            with Image.open(results['seg_map_path']) as mask:  # reads no more than the header
                results['img'] = mmcv.imresize(results['img'], mask.size)
            results['img_shape'] = results['ori_shape'] = results['img'].shape[:2]
        return results


@TRANSFORMS.register_module()
class RandomFaceFlip(RandomFlip):
    """Mirror image and labels; the left brow, eye and ear then become the right ones, and the other way round.

    Uses ``left_right_labels``, which :class:`CelebAMaskHQ` puts into every sample.

    Args:
        prob: Probability of mirroring.
        swap_labels: False leaves the labels of the mirrored sides as they were.
    """

    def __init__(self, prob: float = 0.5, swap_labels: bool = True):
        super().__init__(prob, direction='horizontal')
        self.swap_labels = swap_labels

    def _flip(self, results: dict) -> None:
        self.swap_seg_labels = results['left_right_labels'] if self.swap_labels else None
        super()._flip(results)
