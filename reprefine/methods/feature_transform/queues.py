"""What models with a queue share: the loss of a head on transformed features, and the upkeep of the queue."""

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
from .transform import FeatureTransform, at_least_single


def build_transform(config: dict | None) -> FeatureTransform:
    """Build the transform of a model; None gives one that does nothing."""
    config = dict(pos=None, neg=None) if config is None else config
    return MODELS.build({'type': 'reprefine.FeatureTransform', **config})


def unit(vectors: Tensor) -> Tensor:
    """Return vectors scaled to length 1 along dimension 1, in float32 at least: bfloat16 misses it by up to 0.5 %."""
    return F.normalize(at_least_single(vectors), dim=1)


def contrast(
    transform: FeatureTransform, head: nn.Module, q: Tensor, k: Tensor, queue: Tensor, with_stats: bool = True
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the loss of a contrastive head on transformed features, in float32, and the statistics of the scores.

    A plain :class:`mmpretrain.models.ContrastiveHead` is computed by :func:`~.contrast.queue_cross_entropy`, any other
    head from the scores. The queue may be overwritten as soon as this returns.

    Args:
        transform: The transform.
        head: Head with ``loss(pos, neg)`` and ``temperature``.
        q: Queries ``[B, D]`` of unit length.
        k: Their positive keys ``[B, D]``.
        queue: Negative keys ``[D, K]``.
        with_stats: Whether to compute statistics.

    Returns:
        The loss, and scalars by the names of :data:`~.score_files.KEYS`, empty if not wanted.
    """
    with torch.autocast(q.device.type, enabled=False):
        if is_plain(head):
            return queue_cross_entropy(transform.candidates(q, k, queue), head.temperature, with_stats=with_stats)
        queue = queue.clone()
        pos, neg = transform.scores(q, k, queue)
        loss = head.loss(pos, neg)
        if not with_stats:
            return loss, {}
        with torch.no_grad():
            stats = score_stats(pos, neg)
            raw = at_least_single(q), at_least_single(k)
            before = score_stats(positive_scores(*raw), raw[0] @ queue.to(raw[0])) if transform.active else stats
            logits = neg / head.temperature
            softmax = softmax_stats(pos[:, 0], neg.amax(1), logits.logsumexp(1), neg.shape[1], head.temperature)
        return loss, {**stats, **{f'raw_{key}': value for key, value in before.items()}, **softmax}


def is_plain(head: nn.Module) -> bool:
    """Tell whether the head is mmpretrain's contrastive head with a mean cross-entropy without any weight."""
    loss = getattr(head, 'loss_module', None)
    if type(head) is not ContrastiveHead or type(loss) is not CrossEntropyLoss:
        return False
    options = (loss.use_sigmoid, loss.use_soft, loss.class_weight, loss.pos_weight)
    return not any(options) and loss.reduction == 'mean' and loss.loss_weight == 1


@torch.no_grad()
def enqueue(queue: Tensor, pointer: Tensor, keys: Tensor) -> None:
    """Write the keys of all ranks over the oldest ones, in place, going round where the queue ends.

    Args:
        queue: Negative keys ``[D, K]``.
        pointer: Place of the oldest key ``[1]``; it moves on.
        keys: New keys of this rank ``[B, D]``, as many on every rank.

    Raises:
        UserError: If the queue is shorter than the batch of all ranks.
    """
    keys = torch.cat(all_gather(keys), dim=0)
    length = queue.shape[1]
    if len(keys) > length:
        raise UserError(f'queue_len={length} is shorter than the batch of all ranks, {len(keys)}: make it longer')
    places = (pointer + torch.arange(len(keys), device=keys.device)) % length
    queue.index_copy_(1, places, keys.T.to(queue.dtype))
    pointer.add_(len(keys)).remainder_(length)


class SharedQueues:
    """Mixed into a model with queues: its transform, and queues that are equal on all ranks from the first step on.

    Ranks with seeds of their own may not start with equal ones.

    Args:
        feature_transform: Config of a :class:`~.transform.FeatureTransform`; None for none.
        with_score_stats: Whether the loss dict also holds the statistics of the scores.
        **kwargs: Arguments of the model.
    """

    _queues_shared = False

    def __init__(self, *, feature_transform: dict | None = None, with_score_stats: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.feature_transform = build_transform(feature_transform)
        self.with_score_stats = with_score_stats

    def share_queues(self) -> None:
        """Broadcast buffers called ``queue*`` from rank 0, once."""
        if not self._queues_shared:
            for name, buffer in self.named_buffers(recurse=False):
                if name.startswith('queue'):
                    broadcast(buffer)
            self._queues_shared = True
