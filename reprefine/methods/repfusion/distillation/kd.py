"""Ordinary knowledge distillation from a trained classifier, to compare with."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from mmengine.logging import MMLogger
from mmengine.model import revert_sync_batchnorm
from mmpretrain.models import ImageClassifier
from torch import Tensor, nn

from reprefine.engine.checkpoints.checkpoint import read_checkpoint
from reprefine.engine.checkpoints.entries import select_weights
from reprefine.engine.checkpoints.weights import check_match, load_weights
from reprefine.engine.losses import rename_task_loss
from reprefine.registry import MODELS

from ..teacher.shared_teacher import HoldsTeacher, SharedInCopies
from .distances import attention_transfer, relational, soft_target


class Outputs(NamedTuple):
    """What a classifier computes on the way to its predictions.

    Attributes:
        map: Last map of the backbone ``[N, C, H, W]``.
        pooled: Features that the classifier sees ``[N, C]``.
        logits: ``[N, K]``.
    """

    map: Tensor
    pooled: Tensor
    logits: Tensor


class KDTerm(nn.Module):
    """A term that pulls the student's outputs to the teacher's, times a weight, in float32.

    Args:
        weight: Factor of the term.
    """

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = weight

    def distance(self, student: Outputs, teacher: Outputs) -> Tensor:
        """Return the distance as a scalar."""
        raise NotImplementedError

    def forward(self, student: Outputs, teacher: Outputs) -> Tensor:
        """Return the weighted distance."""
        with torch.autocast(student.logits.device.type, enabled=False):
            in_float32 = (Outputs(*(part.float() for part in outputs)) for outputs in (student, teacher))
            return self.weight * self.distance(*in_float32)


@MODELS.register_module()
class LogitsKD(KDTerm):
    """Mean squared difference of the logits (Ba and Caruana 2014)."""

    def distance(self, student: Outputs, teacher: Outputs) -> Tensor:
        """Return the distance as a scalar."""
        return F.mse_loss(student.logits, teacher.logits)


@MODELS.register_module()
class SoftTargetKD(KDTerm):
    """Divergence of the softened predictions (Hinton et al. 2015), see :func:`soft_target`.

    Args:
        weight: Factor of the term.
        temperature: Divides the logits.
    """

    def __init__(self, weight: float = 1.0, temperature: float = 4.0) -> None:
        super().__init__(weight)
        self.temperature = temperature

    def distance(self, student: Outputs, teacher: Outputs) -> Tensor:
        """Return the distance as a scalar."""
        return soft_target(student.logits, teacher.logits, self.temperature)


@MODELS.register_module()
class HintKD(KDTerm):
    """Mean squared difference of pooled features; a linear map takes the teacher's to the width of the student's.

    Args:
        teacher_channels: Width of the teacher's features.
        student_channels: Width of the student's.
        weight: Factor of the term.
        legacy_frozen_map: Leave the map at its random start, as in the released code, where no optimiser had it.
    """

    def __init__(
        self, teacher_channels: int, student_channels: int, weight: float = 1.0, legacy_frozen_map: bool = False
    ) -> None:
        super().__init__(weight)
        self.map = nn.Linear(teacher_channels, student_channels)
        self.map.requires_grad_(not legacy_frozen_map)

    def distance(self, student: Outputs, teacher: Outputs) -> Tensor:
        """Return the distance as a scalar."""
        return F.mse_loss(self.map(teacher.pooled), student.pooled)


@MODELS.register_module()
class AttentionKD(KDTerm):
    """Squared difference of attention maps, see :func:`attention_transfer`.

    Args:
        weight: Factor of the term.
        power: Power of the features in the maps, ``p``.
    """

    def __init__(self, weight: float = 1.0, power: float = 2.0) -> None:
        super().__init__(weight)
        self.power = power

    def distance(self, student: Outputs, teacher: Outputs) -> Tensor:
        """Return the distance as a scalar."""
        return attention_transfer(student.map, teacher.map, self.power)


@MODELS.register_module()
class RelationalKD(KDTerm):
    """Distances and angles within the batch (RKD), see :func:`relational`.

    Args:
        weight: Factor of the term.
        squared: Compare squared distances.
    """

    def __init__(self, weight: float = 1.0, squared: bool = False) -> None:
        super().__init__(weight)
        self.squared = squared

    def distance(self, student: Outputs, teacher: Outputs) -> Tensor:
        """Return the distance as a scalar."""
        return relational(student.pooled, teacher.pooled, squared=self.squared)


class FrozenClassifier(SharedInCopies):
    """A trained classifier that stays as it is: in evaluation mode, without gradient, and not copied.

    Args:
        model: Config of an ``ImageClassifier``.
        pretrained: Checkpoint with all weights of the model; None: random weights, of use in tests only.
        checkpoint_key: Entry of the file that holds them.
        revise_keys: Pairs of pattern and replacement for their names.

    Raises:
        UserError: If the checkpoint is missing, or does not load the whole model.
    """

    def __init__(
        self,
        model: dict[str, Any],
        pretrained: str | None,
        checkpoint_key: str | None = None,
        revise_keys: Sequence[tuple[str, str]] = (),
    ) -> None:
        super().__init__()
        self.model = revert_sync_batchnorm(MODELS.build(model))
        if pretrained is None:
            MMLogger.get_current_instance().warning('The teacher has random weights: teacher.pretrained is None')
        else:
            content = read_checkpoint(pretrained)
            weights = select_weights(content, pretrained, checkpoint_key, revise_keys)
            check_match(load_weights(self.model, weights), pretrained, 1.0, self.model, content)
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> 'FrozenClassifier':
        """Stay in evaluation mode, so that the norms keep their statistics."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Outputs:
        """Return the outputs for images ``[N, 3, H, W]``."""
        return outputs_of(self.model, images)[1]


def outputs_of(model: ImageClassifier, images: Tensor) -> tuple[tuple[Tensor, ...], Outputs]:
    """Return the features that a classifier's head takes, and all its outputs."""
    maps = model.backbone(images)
    features = model.neck(maps)
    return features, Outputs(maps[-1], model.head.pre_logits(features), model.head(features))


@MODELS.register_module()
class KDClassifier(HoldsTeacher, ImageClassifier):
    """A classifier that learns from labels and from another one; without the teacher it is mmpretrain's classifier.

    Its checkpoints therefore test with the config of the plain student.

    Args:
        teacher: Dict of ``model``, the config of an ``ImageClassifier``, and ``pretrained``, its checkpoint; further
            arguments of :class:`FrozenClassifier` choose and rename its weights.
        kd: Config of a :class:`KDTerm`.
        **kwargs: Arguments of mmpretrain's ``ImageClassifier``, for the student. It needs a neck.

    Raises:
        UserError: If the teacher's checkpoint is missing, or does not fill it.
    """

    def __init__(self, teacher: dict[str, Any], kd: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        keys = {key: teacher[key] for key in ('checkpoint_key', 'revise_keys') if key in teacher}
        self.hold(FrozenClassifier(teacher['model'], teacher['pretrained'], **keys))
        self.kd = MODELS.build(kd)

    def loss(self, inputs: Tensor, data_samples: list) -> dict[str, Tensor]:
        """Return the loss of the head, ``loss_task``, and ``loss_kd``.

        Args:
            inputs: Images ``[N, 3, H, W]``.
            data_samples: Samples with labels.
        """
        features, ours = outputs_of(self, inputs)
        losses = rename_task_loss(self.head.loss(features, data_samples))
        return losses | dict(loss_kd=self.kd(ours, self.teacher(inputs)))
