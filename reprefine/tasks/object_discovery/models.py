"""LOST as a detector: one box per image from frozen features, without training."""

from typing import Any

import torch
from mmdet.models.detectors import BaseDetector
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import Tensor

from reprefine.engine.errors import UserError
from reprefine.registry import MODELS

from .functional import PROMINENCES, localize


@MODELS.register_module()
class LOST(BaseDetector):
    """Object discovery by LOST from the last feature map of the backbone, or of the neck after it.

    Images should be padded to multiples of the patch size (``data_preprocessor.pad_size_divisor``). Patches that
    consist of padding are ignored.

    Args:
        backbone: Config of a backbone that returns feature maps (B, C, h, w).
        neck: Config of a neck, such as ``reprefine.DVTDenoiser``.
        prominence: ``degree`` or ``norm``, see :func:`~.functional.localize`.
        num_patches: Number k of the most prominent patches among which patches similar to the seed are chosen.
        data_preprocessor: Config of the data preprocessor.
        init_cfg: Initialisation config of mmengine.

    Raises:
        UserError: If ``prominence`` is unknown.
    """

    def __init__(
        self,
        backbone: dict[str, Any],
        neck: dict[str, Any] | None = None,
        prominence: str = 'degree',
        num_patches: int = 100,
        data_preprocessor: dict[str, Any] | None = None,
        init_cfg: dict[str, Any] | None = None,
    ):
        super().__init__(data_preprocessor, init_cfg)
        if prominence not in PROMINENCES:
            raise UserError(f'LOST: unknown prominence {prominence!r}; choose from {", ".join(PROMINENCES)}')
        self.backbone = MODELS.build(backbone)
        if neck is not None:
            self.neck = MODELS.build(neck)
        self.prominence = prominence
        self.num_patches = num_patches

    def extract_feat(self, batch_inputs: Tensor) -> Tensor:
        """Return the last feature map (B, C, h, w) of normalised images (B, 3, H, W)."""
        maps = self.backbone(batch_inputs)
        return (self.neck(maps) if self.with_neck else maps)[-1]

    def loss(self, batch_inputs: Tensor, batch_data_samples: list[DetDataSample]) -> dict[str, Tensor]:
        """Raise an error: the model has nothing to train.

        Raises:
            UserError: Always.
        """
        raise UserError('LOST has nothing to train: evaluate it with tools/test.py CONFIG')

    def _forward(self, batch_inputs: Tensor, batch_data_samples: Any = None) -> tuple[Tensor]:
        return (self.extract_feat(batch_inputs),)

    @torch.no_grad()
    def predict(
        self, batch_inputs: Tensor, batch_data_samples: list[DetDataSample], rescale: bool = True
    ) -> list[DetDataSample]:
        """Predict one box of score 1 and label 0 for each image.

        Args:
            batch_inputs: Normalised images (B, 3, H, W).
            batch_data_samples: Their data samples.
            rescale: Return boxes in pixels of the original image instead of the resized one.

        Returns:
            The data samples with ``pred_instances``.
        """
        features = self.extract_feat(batch_inputs)
        instances = [
            self._localize(entry, batch_inputs.shape[-2:], sample.metainfo, rescale)
            for entry, sample in zip(features, batch_data_samples, strict=True)
        ]
        return self.add_pred_to_datasample(batch_data_samples, instances)

    def _localize(self, features: Tensor, padded: torch.Size, meta: dict[str, Any], rescale: bool) -> InstanceData:
        """Return the box of one image, whose features (C, h, w) cover the ``padded`` height and width."""
        height, width = meta['img_shape'][:2]
        size = features.new_tensor([padded[1] / features.shape[2], padded[0] / features.shape[1]])  # of a patch
        columns, rows = (features.new_tensor([width, height]) / size).ceil().int().tolist()
        box = localize(features[:, :rows, :columns], self.prominence, self.num_patches).box
        pixels = (features.new_tensor(box).float().view(2, 2) * size).clamp(max=features.new_tensor([width, height]))
        if rescale:
            pixels = pixels / features.new_tensor(meta.get('scale_factor', (1.0, 1.0)))
        return InstanceData(
            bboxes=pixels.view(1, 4), scores=features.new_ones(1), labels=features.new_zeros(1, dtype=torch.long)
        )
