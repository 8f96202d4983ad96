"""The triplet loss of person re-identification."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reprefine.registry import MODELS


def batch_hard_distances(features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the distances of each feature to its hardest positive and its hardest negative in the batch.

    Computed in float32 at least, also under autocast. The gradient at distance zero is zero.

    Args:
        features: Shape (N, D).
        labels: Identity of each feature, shape (N,).

    Returns:
        Euclidean distances of shape (N,): to the farthest feature of the same identity, 0 if there is no other; and
        to the nearest feature of another identity, infinite if there is none.
    """
    with torch.autocast(features.device.type, enabled=False):
        features = features.to(torch.promote_types(features.dtype, torch.float32))
        # The matrix product is faster but leaves rounding errors of 1e-3 on the diagonal.
        distances = torch.cdist(features, features, compute_mode='donot_use_mm_for_euclid_dist')
    same = labels[:, None] == labels
    d_ap = distances.masked_fill(~same, -torch.inf).amax(1)
    d_an = distances.masked_fill(same, torch.inf).amin(1)
    return d_ap, d_an


@MODELS.register_module()
class BatchHardTripletLoss(nn.Module):
    """Triplet loss over the hardest positive and negative of each sample, averaged (arXiv 1703.07737).

    For a batch of one identity, loss and gradient are zero.

    Args:
        margin: Distance by which a negative must be farther than the positive; None for the soft margin,
            log(1 + exp(d_ap - d_an)).
        loss_weight: Factor of the loss.
    """

    def __init__(self, margin: float | None = None, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.margin = margin
        self.loss_weight = loss_weight

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of features of shape (N, D) with identities of shape (N,)."""
        d_ap, d_an = batch_hard_distances(features, labels)
        excess = d_ap - d_an
        loss = F.softplus(excess) if self.margin is None else F.relu(excess + self.margin)
        return self.loss_weight * loss.mean()
