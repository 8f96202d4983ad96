"""A classifier trained by knowledge distillation from another classifier, the baseline of RepFusion."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.logging import MMLogger
from mmengine.model import revert_sync_batchnorm
from mmpretrain.models import ImageClassifier
from torch import Tensor

from reprefine.engine.checkpoints.checkpoint import read_checkpoint
from reprefine.engine.checkpoints.entries import select_weights
from reprefine.engine.checkpoints.weights import check_match, load_weights
from reprefine.engine.errors import UserError
from reprefine.engine.losses import rename_task_loss
from reprefine.registry import MODELS

from ..teacher.shared_teacher import SharedTeacher, TeacherMixin
from .kd_losses import ClassifierOutputs


class FrozenClassifier(SharedTeacher):
    """A trained classifier that stays in evaluation mode, has no gradients and is shared by deep copies of the student.

    Args:
        model: Config of an ``ImageClassifier``.
        pretrained: Checkpoint with all weights of the model; None: random weights, for tests only.
        checkpoint_key: Entry of the file that holds the weights.
        revise_keys: Pairs of pattern and replacement for the names of the weights.

    Raises:
        UserError: If the checkpoint is missing, or does not contain all weights of the model.
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
        """Stay in evaluation mode, so that batch norms keep their running statistics."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> ClassifierOutputs:
        """Return the outputs for images ``[N, 3, H, W]``."""
        return forward_classifier(self.model, images)[1]


def forward_classifier(model: ImageClassifier, images: Tensor) -> tuple[tuple[Tensor, ...], ClassifierOutputs]:
    """Return the input features of the head of a classifier, and the outputs of its stages.

    Args:
        model: A classifier with a neck.
        images: ``[N, 3, H, W]``.
    """
    maps = model.backbone(images)
    features = model.neck(maps)
    return features, ClassifierOutputs(maps[-1], model.head.pre_logits(features), model.head(features))


@MODELS.register_module()
class KDClassifier(TeacherMixin, ImageClassifier):
    """A classifier that learns from labels and from a teacher classifier.

    Without the teacher it is mmpretrain's classifier, so that its checkpoints are tested with the student's own config.

    Args:
        teacher: Dict of ``model``, the config of an ``ImageClassifier``, and ``pretrained``, its checkpoint; optionally
            ``checkpoint_key`` and ``revise_keys``, see :class:`FrozenClassifier`.
        kd: Config of a :class:`KDLoss`.
        **kwargs: Arguments of mmpretrain's ``ImageClassifier``, for the student. It needs a neck.

    Raises:
        UserError: If a key of ``teacher`` is missing, or the checkpoint is missing or does not contain all its weights.
    """

    def __init__(self, teacher: dict[str, Any], kd: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if absent := {'model', 'pretrained'} - teacher.keys():
            raise UserError(
                f'KDClassifier: teacher has no {" and no ".join(sorted(absent))}; give the config of a classifier as '
                'model and its checkpoint as pretrained'
            )
        options = {key: teacher[key] for key in ('checkpoint_key', 'revise_keys') if key in teacher}
        self.set_teacher(FrozenClassifier(teacher['model'], teacher['pretrained'], **options))
        self.kd = MODELS.build(kd)

    def loss(self, inputs: Tensor, data_samples: list) -> dict[str, Tensor]:
        """Return the loss of the head, ``loss_task``, and ``loss_kd``.

        Args:
            inputs: Images ``[N, 3, H, W]``.
            data_samples: Samples with labels.
        """
        features, outputs = forward_classifier(self, inputs)
        losses = rename_task_loss(self.head.loss(features, data_samples))
        return losses | dict(loss_kd=self.kd(outputs, self.teacher(inputs)))
