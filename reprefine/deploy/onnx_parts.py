"""Parts of a model that map images to tensors and can be exported to ONNX: the whole model, or backbone and neck."""

from collections.abc import Iterator
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from .examples import tensors_in


class Part(nn.Module):
    """A part of a model that maps images to tensors."""

    description: str

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.eval()  # the exporter sets all modules to the mode of the exported one

    def compute(self, images: Tensor) -> Any:
        """Return the tensors, nested in any way, for images ``[N, C, H, W]``."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the tensors of :meth:`compute` as a flat tuple."""
        return tuple(tensors_in(self.compute(images)))


class _Whole(Part):
    description = 'the whole model'

    def compute(self, images: Tensor) -> Any:
        is_openmmlab = hasattr(self.model, 'extract_feat')
        return self.model(images, None, mode='tensor') if is_openmmlab else self.model(images)


class _Features(Part):
    """The inputs of the head: the features of backbone and neck."""

    @property
    def description(self) -> str:
        """The parts that the model has; self-supervised models, which predict nothing, are exported without neck."""
        has_neck = getattr(self.model, 'with_neck', False) and hasattr(self.model, 'predict')
        return 'backbone and neck' if has_neck else 'the backbone'

    def compute(self, images: Tensor) -> Any:
        return self.model.extract_feat(images)


class _Segmentor(Part):
    """Class scores, or depth, resized to the size of the images as the model does."""

    @property
    def description(self) -> str:
        """The whole model, and the content of its output maps."""
        is_depth = any(kind.__name__ == 'DepthEstimator' for kind in type(self.model).__mro__)
        return f'the whole model, {"depth" if is_depth else "class scores"} at the size of the images'

    def compute(self, images: Tensor) -> Tensor:
        maps = self.model(images, None, mode='tensor')
        return F.interpolate(maps, images.shape[-2:], mode='bilinear', align_corners=self.model.align_corners)


class _Pose(_Whole):
    description = 'the whole model, raw outputs of its head (heatmaps, SimCC vectors or key points)'


class _Detector(_Whole):
    description = 'the whole model, raw outputs of its head on every level (boxes not decoded, no NMS)'


def parts_of(model: nn.Module) -> Iterator[Part]:
    """Yield the parts of a model that may be exported, the whole model first.

    Args:
        model: The model, in evaluation mode.
    """
    has_features = hasattr(model, 'extract_feat')
    head = getattr(model, 'head', None)
    if hasattr(model, 'decode_head'):
        yield _Segmentor(model)
    elif any(hasattr(model, name) for name in ('bbox_head', 'rpn_head', 'roi_head')):
        yield _Detector(model)
    elif hasattr(head, 'decode'):
        yield _Pose(model)
    elif not has_features or (head is not None and hasattr(model, 'predict')):
        yield _Whole(model)
    if has_features:
        yield _Features(model)
