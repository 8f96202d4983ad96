"""What of a model an ONNX graph computes: the whole where it maps images to tensors, else backbone and neck."""

from collections.abc import Iterator
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from reprefine.deploy.examples import tensors_in


class Part(nn.Module):
    """A part of a model that maps images to tensors."""

    description: str

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.eval()  # the exporter gives all parts back the mode of the whole

    def compute(self, images: Tensor) -> Any:
        """Return the tensors, nested in any way, for images ``[N, C, H, W]``."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the tensors of :meth:`compute` in a row."""
        return tuple(tensors_in(self.compute(images)))


class _Whole(Part):
    description = 'the whole model'

    def compute(self, images: Tensor) -> Any:
        is_host = hasattr(self.model, 'extract_feat')
        return self.model(images, None, mode='tensor') if is_host else self.model(images)


class _Features(Part):
    """What the head would take."""

    @property
    def description(self) -> str:
        """The parts that there are; self-supervised models, which predict nothing, leave the neck out."""
        has_neck = getattr(self.model, 'with_neck', False) and hasattr(self.model, 'predict')
        return 'backbone and neck' if has_neck else 'the backbone'

    def compute(self, images: Tensor) -> Any:
        return self.model.extract_feat(images)


class _Segmentor(Part):
    """Scores of the classes, or depth, enlarged to the size of the images as the model itself does it."""

    @property
    def description(self) -> str:
        """The whole, and what the maps hold."""
        is_depth = any(kind.__name__ == 'DepthEstimator' for kind in type(self.model).__mro__)
        return f'the whole model, {"depth" if is_depth else "scores of the classes"} at the size of the images'

    def compute(self, images: Tensor) -> Tensor:
        maps = self.model(images, None, mode='tensor')
        return F.interpolate(maps, images.shape[-2:], mode='bilinear', align_corners=self.model.align_corners)


class _Pose(_Whole):
    description = 'the whole model, raw outputs of its head (heatmaps, SimCC vectors or key points)'


class _Detector(_Whole):
    description = 'the whole model, raw outputs of its head on every level (boxes not decoded, no NMS)'


def parts_of(model: nn.Module) -> Iterator[Part]:
    """Yield what may be exported, the best first."""
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
