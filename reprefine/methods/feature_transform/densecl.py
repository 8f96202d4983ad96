"""DenseCL with feature transformation of both queues."""

from typing import Any

import torch
from mmpretrain.models.selfsup import DenseCL
from mmpretrain.models.utils import batch_shuffle_ddp, batch_unshuffle_ddp
from torch import Tensor, nn

from reprefine.registry import MODELS

from .queues import QueueMixin, contrastive_loss, enqueue, l2_normalize


@MODELS.register_module()
class DenseCLFT(QueueMixin, DenseCL):
    """DenseCL with global and dense loss on transformed features; its state dict is that of DenseCL.

    Each queue has its own random draws. The score statistics are those of the global queue.

    Args:
        feature_transform: Config of a :class:`~.transform.FeatureTransform`; None trains DenseCL.
        with_score_stats: Whether the loss dict also contains the score statistics.
        **kwargs: Arguments of :class:`mmpretrain.models.DenseCL`.
    """

    def loss(self, inputs: list[Tensor], data_samples: list | None = None, **kwargs: Any) -> dict[str, Tensor]:
        """Return both losses of two views of a batch, and the statistics of the global scores.

        Args:
            inputs: Two batches of images ``[B, C, H, W]``.
            data_samples: Not used.
            **kwargs: Not used.
        """
        self.broadcast_queues()
        maps = self.backbone(inputs[0])
        q, q_grid, _ = self.neck(maps)
        k_maps, k, k_grid, k_pooled = self._keys(inputs[1])
        matches = matching_keys(maps[0].detach().flatten(2), k_maps, k_grid)
        parts = (self.feature_transform, self.head)
        single, stats = contrastive_loss(*parts, l2_normalize(q), k, self.queue, self.with_score_stats)
        grids = flatten_grid(l2_normalize(q_grid)), flatten_grid(matches)
        dense, _ = contrastive_loss(*parts, *grids, self.queue2, with_stats=False)
        enqueue(self.queue, self.queue_ptr, k)
        enqueue(self.queue2, self.queue2_ptr, k_pooled)
        return dict(loss_single=single * (1 - self.loss_lambda), loss_dense=dense * self.loss_lambda, **stats)

    @torch.no_grad()
    def _keys(self, images: Tensor) -> list[Tensor]:
        """Return backbone features ``[B, C, S]``, and L2-normalised global, dense and pooled dense keys."""
        self.encoder_k.update_parameters(nn.Sequential(self.backbone, self.neck))
        images, order = batch_shuffle_ddp(images)
        maps = self.encoder_k.module[0](images)
        keys = [l2_normalize(key) for key in self.encoder_k.module[1](maps)]
        return [batch_unshuffle_ddp(key.contiguous(), order) for key in (maps[0].flatten(2), *keys)]


def matching_keys(maps: Tensor, key_maps: Tensor, keys: Tensor) -> Tensor:
    """Return for every position of the query image the dense key of the most similar position of the key image.

    Similarity is the cosine similarity, at least in float32, also under autocast.

    Args:
        maps: Backbone features of the query image ``[B, C, S]``.
        key_maps: Backbone features of the key image ``[B, C, S]``.
        keys: Dense keys ``[B, D, S]``.

    Returns:
        Matched keys ``[B, D, S]``.
    """
    with torch.autocast(maps.device.type, enabled=False):
        similarity = l2_normalize(maps).transpose(1, 2) @ l2_normalize(key_maps)
    return keys.gather(2, similarity.argmax(dim=2)[:, None].expand(-1, keys.shape[1], -1))


def flatten_grid(grid: Tensor) -> Tensor:
    """Reshape dense features ``[B, D, S]`` to rows ``[B S, D]``."""
    return grid.transpose(1, 2).flatten(0, 1)
