"""Test-time augmentation of ReID models."""

from collections.abc import Sequence

import torch
from mmengine.model import BaseTTAModel
from mmengine.structures import BaseDataElement

from reprefine.registry import MODELS


@MODELS.register_module()
class ReIDTTAModel(BaseTTAModel):
    """Averages the features of all views of an image, usually the image and its horizontal flip."""

    def merge_preds(self, data_samples_list: Sequence[Sequence[BaseDataElement]]) -> list[BaseDataElement]:
        """Merge the predictions of each image.

        Args:
            data_samples_list: Data samples of the views of each image, with the field ``feature``.

        Returns:
            One sample per image: that of the first view with the mean feature.
        """
        return [self._merge(views) for views in data_samples_list]

    def _merge(self, views: Sequence[BaseDataElement]) -> BaseDataElement:
        merged = views[0].new()
        merged.set_field(torch.stack([view.feature for view in views]).mean(0), 'feature')
        return merged
