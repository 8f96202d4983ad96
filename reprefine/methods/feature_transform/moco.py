"""MoCo with feature transformation."""

from typing import Any

import torch
from mmpretrain.models.selfsup import MoCo
from mmpretrain.models.utils import batch_shuffle_ddp, batch_unshuffle_ddp
from torch import Tensor, nn

from reprefine.registry import MODELS

from .queues import QueueMixin, contrastive_loss, enqueue, l2_normalize


@MODELS.register_module()
class MoCoFT(QueueMixin, MoCo):
    """MoCo with a loss on transformed features; encoders, queue, inference and state dict are those of MoCo.

    In contrast to mmpretrain, the queue may have any length, and a batch any size up to it. As in mmpretrain, every
    forward pass updates the key encoder and the queue, so gradient accumulation updates them for every micro-batch.
    With a single process there is no shuffle BN, so batch statistics can leak which pairs are positive: use two.

    Args:
        feature_transform: Config of a :class:`~.transform.FeatureTransform`; None trains MoCo, with the same
            statistics.
        with_score_stats: Whether the loss dict also contains the score statistics.
        **kwargs: Arguments of :class:`mmpretrain.models.MoCo`.
    """

    def loss(self, inputs: list[Tensor], data_samples: list | None = None, **kwargs: Any) -> dict[str, Tensor]:
        """Return the loss of two views of a batch, and its score statistics.

        Args:
            inputs: Two batches of images ``[B, C, H, W]``.
            data_samples: Not used.
            **kwargs: Not used.
        """
        self.broadcast_queues()
        q = l2_normalize(self.neck(self.backbone(inputs[0]))[0])
        k = self._keys(inputs[1])
        loss, stats = contrastive_loss(self.feature_transform, self.head, q, k, self.queue, self.with_score_stats)
        self._dequeue_and_enqueue(k)
        return dict(loss=loss, **stats)

    @torch.no_grad()
    def _keys(self, images: Tensor) -> Tensor:
        self.encoder_k.update_parameters(nn.Sequential(self.backbone, self.neck))
        images, order = batch_shuffle_ddp(images)
        return batch_unshuffle_ddp(l2_normalize(self.encoder_k(images)[0]), order)

    def _dequeue_and_enqueue(self, keys: Tensor) -> None:
        enqueue(self.queue, self.queue_ptr, keys)
