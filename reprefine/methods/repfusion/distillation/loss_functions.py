"""Loss functions between the features or logits of a student and of a teacher."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..functional import info_nce, l2_normalize

BaseLoss = Callable[[Tensor, Tensor], Tensor]
# Rows of the distance matrix that are computed at a time.
_ROWS = 64


def global_average_pool(features: Tensor) -> Tensor:
    """Average maps ``[N, C, H, W]`` over their positions to ``[N, C]``; vectors ``[N, C]`` are returned unchanged."""
    return features.flatten(2).mean(2) if features.dim() > 2 else features


def hint_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean squared error of pooled features (FitNets, Romero et al. 2015, on pooled maps).

    Args:
        student: Map ``[N, C, H, W]`` or vectors ``[N, C]``, projected to the number of channels of the teacher.
        teacher: Map ``[N, C, H', W']`` or vectors ``[N, C]``.
    """
    return F.mse_loss(global_average_pool(student), global_average_pool(teacher))


def attention_map(features: Tensor, eps: float = 1e-6, power: float = 2.0) -> Tensor:
    """Return the attention map, divided by its L2 norm in each sample (Zagoruyko and Komodakis 2017).

    Args:
        features: Map ``[N, C, H, W]``.
        eps: Added to the norm.
        power: Exponent ``p``: attention is the sum of ``|x|^p`` over the channels.

    Returns:
        Maps ``[N, 1, H, W]``.
    """
    attention = (features.square() if power == 2 else features.abs().pow(power)).sum(1, keepdim=True)
    return attention / (attention.flatten(1).norm(dim=1).view(-1, 1, 1, 1) + eps)


def attention_transfer_loss(student: Tensor, teacher: Tensor, power: float = 2.0) -> Tensor:
    """Return the mean squared error of the attention maps (AT); the numbers of channels may differ.

    Args:
        student: Map ``[N, C, H, W]``, resized to the spatial size of the teacher.
        teacher: Map ``[N, C', H', W']``.
        power: See :func:`attention_map`.
    """
    student = _resize_to(student, teacher)
    return F.mse_loss(attention_map(student, power=power), attention_map(teacher, power=power))


def pairwise_distances(x: Tensor, eps: float = 1e-12) -> Tensor:
    """Return the Euclidean distances ``[N, N]`` between vectors ``[N, D]``, with an exact zero diagonal.

    They are computed from differences: ``|a|^2 + |b|^2 - 2ab`` cancels where the vectors share a large mean.

    Args:
        x: Vectors.
        eps: Square of the smallest distance, that of equal vectors, which has no gradient.
    """
    # By chunks, because the backward pass on a GPU materialises all differences of a chunk, [A, N, D].
    chunks = [torch.cdist(rows, x, compute_mode='donot_use_mm_for_euclid_dist') for rows in x.split(_ROWS)]
    eye = torch.eye(len(x), dtype=torch.bool, device=x.device)
    return torch.cat(chunks).clamp(min=eps**0.5).masked_fill(eye, 0.0)


def relational_distance_loss(student: Tensor, teacher: Tensor, squared: bool = False) -> Tensor:
    """Return the distance-wise loss of RKD (Park et al. 2019, RKD-D).

    The distances within the batch are divided by their mean and compared by smooth L1.

    Args:
        student: Vectors ``[N, D]``; the gradient also flows through their mean distance.
        teacher: Vectors ``[N, D']``.
        squared: Compare squared distances, divided by their own mean.

    Returns:
        Mean over all N x N entries.
    """
    with torch.no_grad():
        target = _divide_by_mean(pairwise_distances(teacher), squared)
    return F.smooth_l1_loss(_divide_by_mean(pairwise_distances(student), squared), target)


def _divide_by_mean(distances: Tensor, squared: bool) -> Tensor:
    if squared:
        distances = distances.square()
    positive = distances > 0
    mean = distances.sum() / positive.sum().clamp(min=1)
    return distances / mean.clamp(min=1e-12)  # a batch of one sample has no distance


def angle_cosines(x: Tensor, anchors: Tensor) -> Tensor:
    """Return the cosines of the angles at anchor vectors between the directions to every two other vectors.

    Args:
        x: Vectors ``[N, D]``.
        anchors: Indices of the anchor vectors ``[A]``.

    Returns:
        Cosines ``[A, N, N]``; 0, without a gradient, where a difference is zero up to rounding errors.
    """
    rounding = 8 * torch.finfo(x.dtype).eps * x.detach().norm(dim=1).max()
    directions = l2_normalize(x[None] - x[anchors, None], dim=2, min_norm=rounding)
    return directions @ directions.transpose(1, 2)


def relational_angle_loss(student: Tensor, teacher: Tensor, chunk: int = 256) -> Tensor:
    """Return the angle-wise loss of RKD (Park et al. 2019, RKD-A): smooth L1 of the angles within the batch.

    Args:
        student: Vectors ``[N, D]``.
        teacher: Vectors ``[N, D']``.
        chunk: Batches larger than this are processed in chunks of at most ``chunk ** 3`` cosines, with gradient
            checkpointing, so that memory is bounded in the backward pass too.

    Returns:
        Mean over all N x N x N entries.
    """
    number = len(student)

    def chunk_sum(vectors: Tensor, anchors: Tensor) -> Tensor:
        with torch.no_grad():
            target = angle_cosines(teacher, anchors)
        return F.smooth_l1_loss(angle_cosines(vectors, anchors), target, reduction='sum')

    indices = torch.arange(number, device=student.device)
    if number <= chunk:
        return chunk_sum(student, indices) / number**3
    chunks = indices.split(max(1, chunk**3 // number**2))
    # Each chunk is divided before the sum: float32 would lose the small terms of a sum over number^3 entries.
    return sum(checkpoint(chunk_sum, student, anchors, use_reentrant=False) / number**3 for anchors in chunks)


def relational_loss(
    student: Tensor,
    teacher: Tensor,
    distance_weight: float = 25.0,
    angle_weight: float = 50.0,
    chunk: int = 256,
    squared: bool = False,
) -> Tensor:
    """Return the weighted sum of both RKD losses (Park et al. 2019) of pooled features.

    Args:
        student: Map ``[N, C, H, W]`` or vectors ``[N, C]``.
        teacher: Map or vectors of the same samples, with any number of channels.
        distance_weight: Weight of :func:`relational_distance_loss`.
        angle_weight: Weight of :func:`relational_angle_loss`.
        chunk: See :func:`relational_angle_loss`.
        squared: See :func:`relational_distance_loss`.
    """
    student, teacher = global_average_pool(student), global_average_pool(teacher)
    distance_loss = relational_distance_loss(student, teacher, squared)
    return distance_weight * distance_loss + angle_weight * relational_angle_loss(student, teacher, chunk)


def normalized_l2_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean squared error after L2 normalisation along dimension 1."""
    return F.mse_loss(l2_normalize(student), l2_normalize(teacher))


def cosine_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Return 1 minus the mean cosine similarity along dimension 1."""
    return 1 - (l2_normalize(student) * l2_normalize(teacher)).sum(1).mean()


BASE_LOSSES: dict[str, BaseLoss] = dict(l2=F.mse_loss, l1=F.l1_loss, l2_norm=normalized_l2_loss, cosine=cosine_loss)


def dense_loss(student: Tensor, teacher: Tensor, base_loss: BaseLoss = F.mse_loss) -> Tensor:
    """Return a loss over all positions of two maps.

    Args:
        student: Map ``[N, C, H, W]``, projected to the number of channels of the teacher; resized to its spatial size.
        teacher: Map ``[N, C, H', W']``.
        base_loss: Loss of two tensors of one shape, such as one of :data:`BASE_LOSSES`.
    """
    return base_loss(_resize_to(student, teacher), teacher)


def _resize_to(features: Tensor, reference: Tensor) -> Tensor:
    if features.shape[2:] == reference.shape[2:]:
        return features
    return F.interpolate(features, reference.shape[2:], mode='bilinear', align_corners=False)


def contrastive_loss(student: Tensor, teacher: Tensor, temperature: float = 0.1) -> Tensor:
    """Return the mean InfoNCE of pooled features, see :func:`info_nce`; positives are features of the same sample.

    Args:
        student: Map ``[N, C, H, W]`` or vectors ``[N, C]``, projected to the number of channels of the teacher.
        teacher: Map or vectors of the same samples.
        temperature: Divides the cosine similarities.
    """
    return info_nce(global_average_pool(student), global_average_pool(teacher), temperature).mean()


def soft_target_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return ``T^2 KL(teacher || student)`` of the softened predictions, mean over samples (Hinton et al. 2015).

    Args:
        student: Logits ``[N, K]``.
        teacher: Logits ``[N, K]``.
        temperature: Divides the logits; its square keeps the scale of the gradient.
    """
    predicted, target = (F.log_softmax(logits / temperature, dim=1) for logits in (student, teacher))
    return temperature**2 * F.kl_div(predicted, target, reduction='batchmean', log_target=True)
