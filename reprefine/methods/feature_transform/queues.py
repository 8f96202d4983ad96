"""Common parts of models with a queue: contrastive loss on transformed features, enqueueing, broadcast of queues."""

from typing import Any

import torch
import torch.nn.functional as F
from mmengine.dist import all_gather, broadcast
from mmengine.registry import MODELS
from mmpretrain.models.heads import ContrastiveHead
from mmpretrain.models.losses import CrossEntropyLoss
from torch import Tensor, nn

from reprefine.engine.errors import UserError

from .functional import positive_scores, score_stats, softmax_stats
from .loss import queue_cross_entropy
from .transform import FeatureTransform, upcast_half


def build_transform(config: dict | None) -> FeatureTransform:
    """Build the transform of a model; None builds an inactive one."""
    config = dict(pos=None, neg=None) if config is None else config
    return MODELS.build({'type': 'reprefine.FeatureTransform', **config})


def l2_normalize(vectors: Tensor) -> Tensor:
    """L2-normalise along dimension 1, at least in float32: in bfloat16 the norm differs from 1 by up to 0.5 %."""
    return F.normalize(upcast_half(vectors), dim=1)


def contrastive_loss(
    transform: FeatureTransform, head: nn.Module, q: Tensor, k: Tensor, queue: Tensor, with_stats: bool = True
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the loss of a contrastive head on transformed features, in float32, and the score statistics.

    A standard :class:`mmpretrain.models.ContrastiveHead` is computed by :func:`~.loss.queue_cross_entropy`, any other
    head from the scores. The queue may be overwritten before the backward pass.

    Args:
        transform: The feature transformation.
        head: Head with ``loss(pos, neg)`` and ``temperature``.
        q: L2-normalised queries ``[B, D]``.
        k: Their positive keys ``[B, D]``.
        queue: Negative keys ``[D, K]``.
        with_stats: Whether to compute score statistics.

    Returns:
        The loss, and the statistics of :data:`~.score_files.KEYS`, empty without ``with_stats``.
    """
    with torch.autocast(q.device.type, enabled=False):
        if is_standard_head(head):
            features = transform.contrastive_features(q, k, queue)
            return queue_cross_entropy(features, head.temperature, with_stats=with_stats)
        queue = queue.clone()
        pos, neg = transform.scores(q, k, queue)
        loss = head.loss(pos, neg)
        if not with_stats:
            return loss, {}
        with torch.no_grad():
            stats = score_stats(pos, neg)
            raw = upcast_half(q), upcast_half(k)
            before = score_stats(positive_scores(*raw), raw[0] @ queue.to(raw[0])) if transform.active else stats
            logits = neg / head.temperature
            softmax = softmax_stats(pos[:, 0], neg.amax(1), logits.logsumexp(1), neg.shape[1], head.temperature)
        return loss, {**stats, **{f'raw_{key}': value for key, value in before.items()}, **softmax}


def is_standard_head(head: nn.Module) -> bool:
    """Return whether the head is mmpretrain's ContrastiveHead with an unweighted mean cross-entropy."""
    loss = getattr(head, 'loss_module', None)
    if type(head) is not ContrastiveHead or type(loss) is not CrossEntropyLoss:
        return False
    options = (loss.use_sigmoid, loss.use_soft, loss.class_weight, loss.pos_weight)
    return not any(options) and loss.reduction == 'mean' and loss.loss_weight == 1


@torch.no_grad()
def enqueue(queue: Tensor, pointer: Tensor, keys: Tensor) -> None:
    """Write the keys of all ranks over the oldest keys of the ring buffer, in place.

    Args:
        queue: Negative keys ``[D, K]``.
        pointer: Index of the oldest key ``[1]``; advanced by the global batch, it wraps around.
        keys: New keys of this rank ``[B, D]``, the same number on every rank.

    Raises:
        UserError: If the queue is shorter than the global batch.
    """
    keys = torch.cat(all_gather(keys), dim=0)
    length = queue.shape[1]
    if len(keys) > length:
        raise UserError(f'queue_len={length} is shorter than the global batch of {len(keys)}: use a longer queue')
    indices = (pointer + torch.arange(len(keys), device=keys.device)) % length
    queue.index_copy_(1, indices, keys.T.to(queue.dtype))
    pointer.add_(len(keys)).remainder_(length)


class QueueMixin:
    """Mixin for models with queues: feature transformation, and equal queues on all ranks.

    Ranks with different seeds initialise different queues, so those of rank 0 are broadcast before the first step.

    Args:
        feature_transform: Config of a :class:`~.transform.FeatureTransform`; None: no transform.
        with_score_stats: Whether the loss dict also contains the score statistics.
        **kwargs: Arguments of the model.
    """

    _queues_broadcast = False

    def __init__(self, *, feature_transform: dict | None = None, with_score_stats: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.feature_transform = build_transform(feature_transform)
        self.with_score_stats = with_score_stats

    def broadcast_queues(self) -> None:
        """Broadcast the buffers named ``queue*`` from rank 0, once."""
        if not self._queues_broadcast:
            for name, buffer in self.named_buffers(recurse=False):
                if name.startswith('queue'):
                    broadcast(buffer)
            self._queues_broadcast = True
