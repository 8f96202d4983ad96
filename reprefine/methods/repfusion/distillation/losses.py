"""Losses of distillation for configs: each compares the features of one or more pairs of layers."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from reprefine.engine.errors import UserError
from reprefine.registry import MODELS

from ..functional import info_nce
from .distances import BASE_DISTANCES, attention_transfer, dense, hint, pool, relational


class FeatureLoss(nn.Module):
    """Mean of a distance over the pairs of layers, times a weight, in float32.

    Args:
        loss_weight: Factor of the result.
    """

    # Whether the student's features are first projected to the width of the teacher's.
    projects = False

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def distance(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the distance of one pair of maps ``[N, C, H, W]`` as a scalar."""
        raise NotImplementedError

    def forward(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        """Return the loss.

        Args:
            student: One map ``[N, C, H, W]`` a pair.
            teacher: As many maps of the same samples.
        """
        with torch.autocast(student[0].device.type, enabled=False):
            terms = [self.distance(s.float(), t.float()) for s, t in zip(student, teacher, strict=True)]
        return self.loss_weight * sum(terms) / len(terms)


@MODELS.register_module()
class HintLoss(FeatureLoss):
    """Squared difference of pooled features, see :func:`hint`."""

    projects = True

    def distance(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the distance of one pair of maps ``[N, C, H, W]`` as a scalar."""
        return hint(student, teacher)


@MODELS.register_module()
class AttentionTransferLoss(FeatureLoss):
    """Squared difference of attention maps, see :func:`attention_transfer`.

    Args:
        loss_weight: Factor of the result; the maps are small numbers.
        power: Power of the features in the maps, ``p``.
    """

    def __init__(self, loss_weight: float = 1000.0, power: float = 2.0) -> None:
        super().__init__(loss_weight)
        self.power = power

    def distance(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the distance of one pair of maps ``[N, C, H, W]`` as a scalar."""
        return attention_transfer(student, teacher, self.power)


@MODELS.register_module()
class RelationalLoss(FeatureLoss):
    """Distances and angles within the batch (RKD), see :func:`relational`.

    Args:
        loss_weight: Factor of the result.
        distance_weight: Weight of the distances.
        angle_weight: Weight of the angles.
        chunk: Batches up to this size are compared at once, larger ones in parts.
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

    def distance(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the distance of one pair of maps ``[N, C, H, W]`` as a scalar."""
        return relational(student, teacher, self.distance_weight, self.angle_weight, self.chunk, self.squared)


@MODELS.register_module()
class DenseLoss(FeatureLoss):
    """Weighted sum of distances between whole maps, see :func:`dense`.

    Args:
        terms: Pairs of the name of a distance (``l1``, ``l2``, ``l2_norm`` or ``cosine``) and its weight.
        loss_weight: Factor of the sum.

    Raises:
        UserError: If a name is unknown, or there is no term.
    """

    projects = True

    def __init__(self, terms: Sequence[tuple[str, float]] = (('l2', 1.0),), loss_weight: float = 1.0) -> None:
        super().__init__(loss_weight)
        self.terms = [(str(name), float(weight)) for name, weight in terms]
        unknown = [name for name, _ in self.terms if name not in BASE_DISTANCES]
        if unknown or not self.terms:
            given = f'unknown distance {unknown[0]!r}' if unknown else 'no term'
            raise UserError(f'DenseLoss: {given}; choose from {", ".join(BASE_DISTANCES)}')

    def distance(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the distance of one pair of maps ``[N, C, H, W]`` as a scalar."""
        return sum(weight * dense(student, teacher, BASE_DISTANCES[name]) for name, weight in self.terms)


@MODELS.register_module()
class ContrastiveFeatureLoss(FeatureLoss):
    """Contrast of each sample's pooled features with the teacher's of the batch, see :func:`info_nce`.

    Args:
        loss_weight: Factor of the result.
        temperature: Divides the cosines.
    """

    projects = True

    def __init__(self, loss_weight: float = 1.0, temperature: float = 0.1) -> None:
        super().__init__(loss_weight)
        self.temperature = temperature

    def distance(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the distance of one pair of maps ``[N, C, H, W]`` as a scalar."""
        return info_nce(pool(student), pool(teacher), self.temperature).mean()
