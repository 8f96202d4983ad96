"""MoCo with feature transformation."""

from typing import Any

import torch
from mmpretrain.models.selfsup import MoCo
from mmpretrain.models.utils import batch_shuffle_ddp, batch_unshuffle_ddp
from torch import Tensor, nn

from reprefine.registry import MODELS

from .queues import SharedQueues, contrast, enqueue, unit


@MODELS.register_module()
class MoCoFT(SharedQueues, MoCo):
    """MoCo whose loss sees transformed features; encoders, queue, inference and state dict are those of MoCo.

    Unlike there, the queue may have any length, and training batches any size up to it. As there, every forward pass
    moves the key encoder and the queue on, so with gradient accumulation they move with every part of a batch.
    In a single process batch norm can leak which pair belongs together, since nothing can be shuffled between
    processes: train with two or more.

    Args:
        feature_transform: Config of a :class:`~.transform.FeatureTransform`; None trains plain MoCo, with the same
            statistics.
        with_score_stats: Whether the loss dict also holds the statistics of the scores.
        **kwargs: Arguments of :class:`mmpretrain.models.MoCo`.
    """

    def loss(self, inputs: list[Tensor], data_samples: list | None = None, **kwargs: Any) -> dict[str, Tensor]:
        """Return the loss of two views of a batch, and the statistics of its scores.

        Args:
            inputs: Two batches of images ``[B, C, H, W]``.
            data_samples: Not used.
            **kwargs: Not used.
        """
        self.share_queues()
        q = unit(self.neck(self.backbone(inputs[0]))[0])
        k = self._keys(inputs[1])
        loss, stats = contrast(self.feature_transform, self.head, q, k, self.queue, self.with_score_stats)
        self._dequeue_and_enqueue(k)
        return dict(loss=loss, **stats)

    @torch.no_grad()
    def _keys(self, images: Tensor) -> Tensor:
        self.encoder_k.update_parameters(nn.Sequential(self.backbone, self.neck))
        images, order = batch_shuffle_ddp(images)
        return batch_unshuffle_ddp(unit(self.encoder_k(images)[0]), order)

    def _dequeue_and_enqueue(self, keys: Tensor) -> None:
        enqueue(self.queue, self.queue_ptr, keys)
