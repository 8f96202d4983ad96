"""Loss of denoised features against their targets."""

import torch.nn.functional as F
from torch import Tensor, nn

from reprefine.registry import MODELS


def mean_cosine_distance(prediction: Tensor, target: Tensor) -> Tensor:
    """Return one minus the cosine similarity of the features of each position, averaged over all positions.

    Args:
        prediction: Feature map (B, C, h, w).
        target: Feature map of the same shape.
    """
    return 1 - F.cosine_similarity(prediction, target, dim=1, eps=1e-8).mean()


@MODELS.register_module()
class FeatureLoss(nn.Module):
    """Mean squared error over all elements plus mean cosine distance over all positions, computed in float32.

    Args:
        mse_weight: Weight of the squared error.
        cosine_weight: Weight of the cosine distance.
    """

    def __init__(self, mse_weight: float = 1.0, cosine_weight: float = 1.0):
        super().__init__()
        self.mse_weight = mse_weight
        self.cosine_weight = cosine_weight

    def forward(self, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return ``loss_mse`` and ``loss_cosine`` of feature maps (B, C, h, w)."""
        prediction, target = prediction.float(), target.float()
        return dict(
            loss_mse=self.mse_weight * F.mse_loss(prediction, target),
            loss_cosine=self.cosine_weight * mean_cosine_distance(prediction, target),
        )
