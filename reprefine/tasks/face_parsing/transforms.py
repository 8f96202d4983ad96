"""Transforms of CelebAMask-HQ."""

import mmcv
from mmcv.transforms import BaseTransform
from mmseg.datasets.transforms import RandomFlip
from PIL import Image

from reprefine.registry import TRANSFORMS


@TRANSFORMS.register_module()
class ResizeToMask(BaseTransform):
    """Resize the image to the size of its label map and set ``ori_shape`` to it.

    CelebAMask-HQ has images of 1024 pixels a side and masks of 512; without this, predictions would be compared with
    labels of another size. An image without a label map, as in inference, is not changed. Put this transform right
    after the one that loads the image.
    """

    def transform(self, results: dict) -> dict:
        """Return ``results`` with new ``img``, ``img_shape`` and ``ori_shape``."""
        if 'seg_map_path' in results:
            with Image.open(results['seg_map_path']) as mask:  # reads the header only
                results['img'] = mmcv.imresize(results['img'], mask.size)
            results['img_shape'] = results['ori_shape'] = results['img'].shape[:2]
        return results


@TRANSFORMS.register_module()
class RandomFaceFlip(RandomFlip):
    """Flip image and labels horizontally and swap the labels of left and right brow, eye and ear.

    Reads ``left_right_labels``, which :class:`CelebAMaskHQ` adds to every sample.

    Args:
        prob: Probability of flipping.
        swap_labels: Whether to swap the labels of left and right.
    """

    def __init__(self, prob: float = 0.5, swap_labels: bool = True):
        super().__init__(prob, direction='horizontal')
        self.swap_labels = swap_labels

    def _flip(self, results: dict) -> None:
        self.swap_seg_labels = results['left_right_labels'] if self.swap_labels else None
        super()._flip(results)
