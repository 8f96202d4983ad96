"""DenseCL with feature transformation of both its queues."""

from typing import Any

import torch
from mmpretrain.models.selfsup import DenseCL
from mmpretrain.models.utils import batch_shuffle_ddp, batch_unshuffle_ddp
from torch import Tensor, nn

from reprefine.registry import MODELS

from .queues import SharedQueues, contrast, enqueue, unit


@MODELS.register_module()
class DenseCLFT(SharedQueues, DenseCL):
    """DenseCL whose global and dense losses see transformed features; its state dict is that of DenseCL.

    Each of the two queues is mixed by draws of its own. The statistics are those of the global queue.

    Args:
        feature_transform: Config of a :class:`~.transform.FeatureTransform`; None trains plain DenseCL.
        with_score_stats: Whether the loss dict also holds the statistics of the scores.
        **kwargs: Arguments of :class:`mmpretrain.models.DenseCL`.
    """

    def loss(self, inputs: list[Tensor], data_samples: list | None = None, **kwargs: Any) -> dict[str, Tensor]:
        """Return both losses of two views of a batch, and the statistics of the global scores.

        Args:
            inputs: Two batches of images ``[B, C, H, W]``.
            data_samples: Not used.
            **kwargs: Not used.
        """
        self.share_queues()
        maps = self.backbone(inputs[0])
        q, q_grid, _ = self.neck(maps)
        k_maps, k, k_grid, k_pooled = self._keys(inputs[1])
        matches = matching_keys(maps[0].detach().flatten(2), k_maps, k_grid)
        parts = (self.feature_transform, self.head)
        single, stats = contrast(*parts, unit(q), k, self.queue, self.with_score_stats)
        dense, _ = contrast(*parts, as_rows(unit(q_grid)), as_rows(matches), self.queue2, False)
        enqueue(self.queue, self.queue_ptr, k)
        enqueue(self.queue2, self.queue2_ptr, k_pooled)
        return dict(loss_single=single * (1 - self.loss_lambda), loss_dense=dense * self.loss_lambda, **stats)

    @torch.no_grad()
    def _keys(self, images: Tensor) -> list[Tensor]:
        """Return backbone maps, global keys, dense keys and pooled dense keys, all but the maps of unit length."""
        self.encoder_k.update_parameters(nn.Sequential(self.backbone, self.neck))
        images, order = batch_shuffle_ddp(images)
        maps = self.encoder_k.module[0](images)
        keys = [unit(key) for key in self.encoder_k.module[1](maps)]
        return [batch_unshuffle_ddp(key.contiguous(), order) for key in (maps[0].flatten(2), *keys)]


def matching_keys(maps: Tensor, key_maps: Tensor, keys: Tensor) -> Tensor:
    """Return for every place of the query image the dense key of the most similar place of the key image.

    Similarity is the cosine, in float32 at least, also under autocast.

    Args:
        maps: Backbone features of the query image ``[B, C, S]``.
        key_maps: Those of the key image ``[B, C, S]``.
        keys: Dense keys ``[B, D, S]``.

    Returns:
        Keys ``[B, D, S]``.
    """
    with torch.autocast(maps.device.type, enabled=False):
        similarity = unit(maps).transpose(1, 2) @ unit(key_maps)
    return keys.gather(2, similarity.argmax(dim=2)[:, None].expand(-1, keys.shape[1], -1))


def as_rows(grid: Tensor) -> Tensor:
    """Return the vectors of a grid ``[B, D, S]`` as rows ``[B S, D]``."""
    return grid.transpose(1, 2).flatten(0, 1)
