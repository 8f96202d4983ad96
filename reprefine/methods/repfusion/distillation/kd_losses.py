"""Knowledge distillation losses for configs, on the outputs of a student and a teacher classifier."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reprefine.engine.config_check.deprecated import deprecated_arguments
from reprefine.registry import MODELS

from .loss_functions import attention_transfer_loss, hint_loss, relational_loss, soft_target_loss

DEPRECATED_ARGUMENTS = {
    'AttentionKD': {'weight': 'loss_weight'},
    'HintKD': {'weight': 'loss_weight'},
    'LogitsKD': {'weight': 'loss_weight'},
    'RelationalKD': {'weight': 'loss_weight'},
    'SoftTargetKD': {'weight': 'loss_weight'},
}


class ClassifierOutputs(NamedTuple):
    """Outputs of the stages of a classifier.

    Attributes:
        feature_map: Last map of the backbone ``[N, C, H, W]``.
        pooled: Input features of the last linear layer ``[N, C]``.
        logits: ``[N, K]``.
    """

    feature_map: Tensor
    pooled: Tensor
    logits: Tensor


class KDLoss(nn.Module):
    """Base class: a loss between the outputs of student and teacher, times a weight, in float32.

    Args:
        loss_weight: Weight of the loss.
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def unweighted_loss(self, student: ClassifierOutputs, teacher: ClassifierOutputs) -> Tensor:
        """Return the loss as a scalar."""
        raise NotImplementedError

    def forward(self, student: ClassifierOutputs, teacher: ClassifierOutputs) -> Tensor:
        """Return the weighted loss."""
        with torch.autocast(student.logits.device.type, enabled=False):
            in_float32 = (ClassifierOutputs(*(value.float() for value in outputs)) for outputs in (student, teacher))
            return self.loss_weight * self.unweighted_loss(*in_float32)


@MODELS.register_module()
class LogitsKD(KDLoss):
    """Mean squared error of the logits (Ba and Caruana 2014).

    Args:
        loss_weight: Weight of the loss.
    """

    @deprecated_arguments(DEPRECATED_ARGUMENTS['LogitsKD'])
    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__(loss_weight)

    def unweighted_loss(self, student: ClassifierOutputs, teacher: ClassifierOutputs) -> Tensor:
        """Return the loss as a scalar."""
        return F.mse_loss(student.logits, teacher.logits)


@MODELS.register_module()
class SoftTargetKD(KDLoss):
    """KL divergence of the softened predictions (Hinton et al. 2015), see :func:`soft_target_loss`.

    Args:
        loss_weight: Weight of the loss.
        temperature: Divides the logits.
    """

    @deprecated_arguments(DEPRECATED_ARGUMENTS['SoftTargetKD'])
    def __init__(self, loss_weight: float = 1.0, temperature: float = 4.0) -> None:
        super().__init__(loss_weight)
        self.temperature = temperature

    def unweighted_loss(self, student: ClassifierOutputs, teacher: ClassifierOutputs) -> Tensor:
        """Return the loss as a scalar."""
        return soft_target_loss(student.logits, teacher.logits, self.temperature)


@MODELS.register_module()
class HintKD(KDLoss):
    """Mean squared error of pooled features, see :func:`hint_loss`.

    A linear layer maps the teacher's features to the number of channels of the student's.

    Args:
        teacher_channels: Number of channels of the teacher's features.
        student_channels: Number of channels of the student's features.
        loss_weight: Weight of the loss.
        legacy_frozen_map: Keep the linear layer at its random initialisation, as in the released code, where it was in
            no optimiser.
    """

    @deprecated_arguments(DEPRECATED_ARGUMENTS['HintKD'])
    def __init__(
        self, teacher_channels: int, student_channels: int, loss_weight: float = 1.0, legacy_frozen_map: bool = False
    ) -> None:
        super().__init__(loss_weight)
        self.map = nn.Linear(teacher_channels, student_channels)
        self.map.requires_grad_(not legacy_frozen_map)

    def unweighted_loss(self, student: ClassifierOutputs, teacher: ClassifierOutputs) -> Tensor:
        """Return the loss as a scalar."""
        return hint_loss(student.pooled, self.map(teacher.pooled))


@MODELS.register_module()
class AttentionKD(KDLoss):
    """Mean squared error of attention maps (AT), see :func:`attention_transfer_loss`.

    Args:
        loss_weight: Weight of the loss.
        power: Exponent ``p`` of the attention.
    """

    @deprecated_arguments(DEPRECATED_ARGUMENTS['AttentionKD'])
    def __init__(self, loss_weight: float = 1.0, power: float = 2.0) -> None:
        super().__init__(loss_weight)
        self.power = power

    def unweighted_loss(self, student: ClassifierOutputs, teacher: ClassifierOutputs) -> Tensor:
        """Return the loss as a scalar."""
        return attention_transfer_loss(student.feature_map, teacher.feature_map, self.power)


@MODELS.register_module()
class RelationalKD(KDLoss):
    """Distances and angles within the batch (RKD), see :func:`relational_loss`.

    Args:
        loss_weight: Weight of the loss.
        squared: Compare squared distances.
    """

    @deprecated_arguments(DEPRECATED_ARGUMENTS['RelationalKD'])
    def __init__(self, loss_weight: float = 1.0, squared: bool = False) -> None:
        super().__init__(loss_weight)
        self.squared = squared

    def unweighted_loss(self, student: ClassifierOutputs, teacher: ClassifierOutputs) -> Tensor:
        """Return the loss as a scalar."""
        return relational_loss(student.pooled, teacher.pooled, squared=self.squared)
