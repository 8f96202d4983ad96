"""Distillation losses for configs, on pairs of a student layer and a teacher layer."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from reprefine.engine.errors import UserError
from reprefine.registry import MODELS

from .loss_functions import (
    BASE_LOSSES,
    attention_transfer_loss,
    contrastive_loss,
    dense_loss,
    hint_loss,
    relational_loss,
)


class DistillationLoss(nn.Module):
    """Base class: mean loss over the pairs of layers, times a weight, in float32.

    Args:
        loss_weight: Weight of the loss.
    """

    # Whether the student's features are first projected to the number of channels of the teacher's.
    projects = False

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def unweighted_loss(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of one pair of maps ``[N, C, H, W]`` as a scalar."""
        raise NotImplementedError

    def forward(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        """Return the loss.

        Args:
            student: One map ``[N, C, H, W]`` a pair.
            teacher: As many maps of the same samples.
        """
        with torch.autocast(student[0].device.type, enabled=False):
            terms = [self.unweighted_loss(s.float(), t.float()) for s, t in zip(student, teacher, strict=True)]
        return self.loss_weight * sum(terms) / len(terms)


@MODELS.register_module()
class HintLoss(DistillationLoss):
    """Mean squared error of pooled features, see :func:`hint_loss`."""

    projects = True

    def unweighted_loss(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of one pair of maps ``[N, C, H, W]`` as a scalar."""
        return hint_loss(student, teacher)


@MODELS.register_module()
class AttentionTransferLoss(DistillationLoss):
    """Mean squared error of attention maps (AT), see :func:`attention_transfer_loss`.

    Args:
        loss_weight: Weight of the loss; large, because the maps are normalised.
        power: Exponent ``p`` of the attention.
    """

    def __init__(self, loss_weight: float = 1000.0, power: float = 2.0) -> None:
        super().__init__(loss_weight)
        self.power = power

    def unweighted_loss(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of one pair of maps ``[N, C, H, W]`` as a scalar."""
        return attention_transfer_loss(student, teacher, self.power)


@MODELS.register_module()
class RelationalLoss(DistillationLoss):
    """Distances and angles within the batch (RKD), see :func:`relational_loss`.

    Args:
        loss_weight: Weight of the loss.
        distance_weight: Weight of the distance-wise loss.
        angle_weight: Weight of the angle-wise loss.
        chunk: Batches larger than this are processed in chunks.
        squared: Compare squared distances.
    """

    def __init__(
        self,
        loss_weight: float = 1.0,
        distance_weight: float = 25.0,
        angle_weight: float = 50.0,
        chunk: int = 256,
        squared: bool = False,
    ) -> None:
        super().__init__(loss_weight)
        self.distance_weight, self.angle_weight, self.chunk = distance_weight, angle_weight, chunk
        self.squared = squared

    def unweighted_loss(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of one pair of maps ``[N, C, H, W]`` as a scalar."""
        return relational_loss(student, teacher, self.distance_weight, self.angle_weight, self.chunk, self.squared)


@MODELS.register_module()
class DenseLoss(DistillationLoss):
    """Weighted sum of losses over all positions, see :func:`dense_loss`.

    Args:
        terms: Pairs of the name of a base loss (``l1``, ``l2``, ``l2_norm`` or ``cosine``) and its weight.
        loss_weight: Weight of the sum.

    Raises:
        UserError: If a name is unknown, or ``terms`` is empty.
    """

    projects = True

    def __init__(self, terms: Sequence[tuple[str, float]] = (('l2', 1.0),), loss_weight: float = 1.0) -> None:
        super().__init__(loss_weight)
        self.terms = [(str(name), float(weight)) for name, weight in terms]
        unknown = [name for name, _ in self.terms if name not in BASE_LOSSES]
        if unknown or not self.terms:
            problem = f'unknown loss {unknown[0]!r} in terms' if unknown else 'terms is empty'
            raise UserError(f'DenseLoss: {problem}; choose from {", ".join(BASE_LOSSES)}')

    def unweighted_loss(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of one pair of maps ``[N, C, H, W]`` as a scalar."""
        return sum(weight * dense_loss(student, teacher, BASE_LOSSES[name]) for name, weight in self.terms)


@MODELS.register_module()
class ContrastiveFeatureLoss(DistillationLoss):
    """InfoNCE of pooled features, see :func:`contrastive_loss`.

    Args:
        loss_weight: Weight of the loss.
        temperature: Divides the cosine similarities.
    """

    projects = True

    def __init__(self, loss_weight: float = 1.0, temperature: float = 0.1) -> None:
        super().__init__(loss_weight)
        self.temperature = temperature

    def unweighted_loss(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of one pair of maps ``[N, C, H, W]`` as a scalar."""
        return contrastive_loss(student, teacher, self.temperature)
