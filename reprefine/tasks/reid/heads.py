"""Classification head of ReID models with a batch normalisation neck (BNNeck)."""

from typing import Any

import torch
from mmpretrain.models.heads import ClsHead
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from reprefine.engine.errors import UserError
from reprefine.registry import MODELS

FEATURES = ('before', 'after')


@MODELS.register_module()
class BNNeckHead(ClsHead):
    """Identity and triplet losses, decoupled by a BN neck (arXiv 1903.07071, section 3.5).

    The triplet loss takes the backbone's feature, the identity loss the batch-normalised feature. In evaluation the
    head returns features: as a tensor, or as the field ``feature`` of the data samples.

    Args:
        num_classes: Number of identities in the training set.
        in_channels: Dimension of the feature.
        triplet: Config of the loss on features and labels, with its ``loss_weight``.
        feature: Whether to return features ``before`` or ``after`` the neck; they are not L2-normalised.
        init_cfg: Initialisation of the classifier.
        **kwargs: Arguments of mmpretrain's ``ClsHead``: ``loss`` (on the identity scores), ``cal_acc``, ``topk``.

    Raises:
        UserError: If ``feature`` is unknown.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        triplet: dict,
        feature: str = 'before',
        init_cfg: dict | None = dict(type='Normal', layer='Linear', std=0.001),  # noqa: B006, as in mmpretrain
        **kwargs: Any,
    ) -> None:
        super().__init__(init_cfg=init_cfg, **kwargs)
        if feature not in FEATURES:
            raise UserError(f'BNNeckHead: unknown feature {feature!r}; choose from {", ".join(FEATURES)}')
        self.feature = feature
        self.triplet = MODELS.build(triplet)
        self.bottleneck = nn.BatchNorm1d(in_channels)
        self.bottleneck.bias.requires_grad_(False)
        self.classifier = nn.Linear(in_channels, num_classes, bias=False)

    def forward(self, feats: tuple[Tensor, ...]) -> Tensor:
        """Return the features for retrieval, shape (N, D)."""
        feature = self.pre_logits(feats)
        return feature if self.feature == 'before' else self.bottleneck(feature)

    def loss(self, feats: tuple[Tensor, ...], data_samples: list[DataSample], **kwargs: Any) -> dict[str, Tensor]:
        """Return ``loss_id`` and ``loss_triplet``, and the accuracies if ``cal_acc``.

        Args:
            feats: Outputs of backbone or neck, the last of shape (N, D).
            data_samples: N samples with ``gt_label``.
            **kwargs: Arguments of the identity loss.
        """
        feature = self.pre_logits(feats)
        losses = self._get_loss(self.classifier(self.bottleneck(feature)), data_samples, **kwargs)
        labels = torch.cat([sample.gt_label for sample in data_samples])
        return {'loss_id': losses.pop('loss'), 'loss_triplet': self.triplet(feature, labels), **losses}

    def predict(self, feats: tuple[Tensor, ...], data_samples: list[DataSample] | None = None) -> list[DataSample]:
        """Set the field ``feature``, shape (D,), of the data samples; without samples, create them."""
        features = self(feats)
        samples = data_samples or [DataSample() for _ in features]
        for sample, feature in zip(samples, features, strict=True):
            sample.set_field(feature.detach().clone(), 'feature', dtype=Tensor)  # a view would keep the batch
        return samples
