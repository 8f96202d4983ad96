"""MoCo with feature transformation."""

from typing import Any

import torch
import torch.nn.functional as F
from mmengine.dist import all_gather
from mmengine.registry import MODELS as ROOT_MODELS
from mmpretrain.models.selfsup import MoCo
from mmpretrain.models.utils import batch_shuffle_ddp, batch_unshuffle_ddp
from torch import Tensor, nn

from reprefine.registry import MODELS

from .functional import positive_scores, score_stats, softmax_stats


@MODELS.register_module()
class MoCoFT(MoCo):
    """MoCo whose loss sees transformed features; encoders, queue, inference and state dict are those of MoCo.

    Args:
        feature_transform: Config of a :class:`~.transform.FeatureTransform`; None trains plain MoCo, with the same
            statistics.
        with_score_stats: Whether the loss dict also holds the statistics of the scores.
        **kwargs: Arguments of :class:`mmpretrain.models.MoCo`.
    """

    def __init__(self, *, feature_transform: dict | None = None, with_score_stats: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        config = dict(pos=None, neg=None) if feature_transform is None else feature_transform
        self.feature_transform = ROOT_MODELS.build({'type': 'reprefine.FeatureTransform', **config})
        self.with_score_stats = with_score_stats

    def loss(self, inputs: list[Tensor], data_samples: list | None = None, **kwargs: Any) -> dict[str, Tensor]:
        """Return the loss of two views of a batch, and the statistics of its scores.

        Args:
            inputs: Two batches of images ``[B, C, H, W]``.
            data_samples: Not used.
            **kwargs: Not used.
        """
        q = F.normalize(self.neck(self.backbone(inputs[0]))[0], dim=1)
        k = self._keys(inputs[1])
        queue = self.queue.clone()
        pos, neg = self.feature_transform.scores(q, k, queue)
        losses = dict(loss=self.head.loss(pos, neg))
        if self.with_score_stats:
            losses |= self._stats(q, k, queue, pos, neg)
        self._dequeue_and_enqueue(k)
        return losses

    @torch.no_grad()
    def _keys(self, images: Tensor) -> Tensor:
        self.encoder_k.update_parameters(nn.Sequential(self.backbone, self.neck))
        images, order = batch_shuffle_ddp(images)
        return batch_unshuffle_ddp(F.normalize(self.encoder_k(images)[0], dim=1), order)

    @torch.no_grad()
    def _stats(self, q: Tensor, k: Tensor, queue: Tensor, pos: Tensor, neg: Tensor) -> dict[str, Tensor]:
        stats = score_stats(pos, neg)
        raw = stats
        if self.feature_transform.active:
            with torch.autocast(q.device.type, enabled=False):
                raw = score_stats(positive_scores(q.float(), k.float()), q.float() @ queue)
        raw = {f'raw_{key}': value for key, value in raw.items()}
        return stats | raw | softmax_stats(pos, neg, self.head.temperature)

    @torch.no_grad()
    def _dequeue_and_enqueue(self, keys: Tensor) -> None:
        """Write the keys of all ranks over the oldest ones, going round where the queue ends."""
        keys = torch.cat(all_gather(keys), dim=0)
        places = (self.queue_ptr + torch.arange(len(keys), device=keys.device)) % self.queue_len
        self.queue.index_copy_(1, places, keys.T.to(self.queue.dtype))
        self.queue_ptr.add_(len(keys)).remainder_(self.queue_len)
