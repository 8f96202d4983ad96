"""How far the features of a student are from those of a teacher, as pure functions of tensors."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..functional import unit

Distance = Callable[[Tensor, Tensor], Tensor]
_ROWS = 64


def pool(features: Tensor) -> Tensor:
    """Average maps ``[N, C, H, W]`` over their positions to ``[N, C]``; vectors ``[N, C]`` stay as they are."""
    return features.flatten(2).mean(2) if features.dim() > 2 else features


def hint(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean squared difference of pooled features (Romero et al. 2015, on pooled maps).

    Args:
        student: Map ``[N, C, H, W]`` or vectors ``[N, C]``, projected to the width of the teacher.
        teacher: Map ``[N, C, H', W']`` or vectors ``[N, C]``.
    """
    return F.mse_loss(pool(student), pool(teacher))


def attention_map(features: Tensor, eps: float = 1e-6, power: float = 2.0) -> Tensor:
    """Return the energy of each position, scaled to norm 1 for each sample (Zagoruyko and Komodakis 2017).

    Args:
        features: Map ``[N, C, H, W]``.
        eps: Added to the norm.
        power: ``p``: the energy is the sum of ``|x|^p`` over the channels.

    Returns:
        Maps ``[N, 1, H, W]``.
    """
    energy = (features.square() if power == 2 else features.abs().pow(power)).sum(1, keepdim=True)
    return energy / (energy.flatten(1).norm(dim=1).view(-1, 1, 1, 1) + eps)


def attention_transfer(student: Tensor, teacher: Tensor, power: float = 2.0) -> Tensor:
    """Return the mean squared difference of the attention maps; the widths may differ.

    Args:
        student: Map ``[N, C, H, W]``, which is resized to the positions of the teacher.
        teacher: Map ``[N, C', H', W']``.
        power: As in :func:`attention_map`.
    """
    ours, theirs = (attention_map(x, power=power) for x in (_resized(student, teacher), teacher))
    return F.mse_loss(ours, theirs)


def pairwise_distances(x: Tensor, eps: float = 1e-12) -> Tensor:
    """Return the Euclidean distances ``[N, N]`` between vectors ``[N, D]``, with an exact zero diagonal.

    They are taken from differences: ``|a|^2 + |b|^2 - 2ab`` loses the digits that a mean common to all vectors takes.

    Args:
        x: Vectors.
        eps: Square of the smallest distance, that of equal vectors, which has no gradient.
    """
    # In parts, because the backward pass of a GPU holds all differences of a part, [A, N, D].
    parts = [torch.cdist(part, x, compute_mode='donot_use_mm_for_euclid_dist') for part in x.split(_ROWS)]
    eye = torch.eye(len(x), dtype=torch.bool, device=x.device)
    return torch.cat(parts).clamp(min=eps**0.5).masked_fill(eye, 0.0)


def relational_distance(student: Tensor, teacher: Tensor, squared: bool = False) -> Tensor:
    """Compare distances within the batch in units of their mean (Park et al. 2019, RKD-D).

    Args:
        student: Vectors ``[N, D]``; the gradient also flows through their mean distance.
        teacher: Vectors ``[N, D']``.
        squared: Compare squared distances, in units of their own mean.

    Returns:
        Smooth L1 distance, mean over all N x N entries.
    """
    with torch.no_grad():
        target = _in_units_of_mean(pairwise_distances(teacher), squared)
    return F.smooth_l1_loss(_in_units_of_mean(pairwise_distances(student), squared), target)


def _in_units_of_mean(distances: Tensor, squared: bool) -> Tensor:
    if squared:
        distances = distances.square()
    positive = distances > 0
    mean = distances.sum() / positive.sum().clamp(min=1)
    return distances / mean.clamp(min=1e-12)  # a single sample has no distance


def angles(x: Tensor, anchors: Tensor) -> Tensor:
    """Return cosines of the angles at some vectors between the lines to every two others.

    Args:
        x: Vectors ``[N, D]``.
        anchors: Indices of the vectors ``[A]`` that the angles are at.

    Returns:
        Cosines ``[A, N, N]``; 0, without a gradient, where a line has no length beyond rounding errors.
    """
    rounding = 8 * torch.finfo(x.dtype).eps * x.detach().norm(dim=1).max()
    lines = unit(x[None] - x[anchors, None], dim=2, shortest=rounding)
    return lines @ lines.transpose(1, 2)


def relational_angle(student: Tensor, teacher: Tensor, chunk: int = 256) -> Tensor:
    """Compare the angles within the batch (Park et al. 2019, RKD-A).

    Args:
        student: Vectors ``[N, D]``.
        teacher: Vectors ``[N, D']``.
        chunk: A larger batch is worked off in parts, at most ``chunk ** 3`` cosines at a time. They are computed again
            in the backward pass, so that memory stays at one part there too.

    Returns:
        Smooth L1 distance, mean over all N x N x N entries.
    """
    number = len(student)

    def part(s: Tensor, anchors: Tensor) -> Tensor:
        with torch.no_grad():
            target = angles(teacher, anchors)
        return F.smooth_l1_loss(angles(s, anchors), target, reduction='sum')

    indices = torch.arange(number, device=student.device)
    if number <= chunk:
        return part(student, indices) / number**3
    parts = indices.split(max(1, chunk**3 // number**2))
    # The sum of number^3 terms is taken in parts, each already divided: float32 would lose the small ones.
    return sum(checkpoint(part, student, anchors, use_reentrant=False) / number**3 for anchors in parts)


def relational(
    student: Tensor,
    teacher: Tensor,
    distance_weight: float = 25.0,
    angle_weight: float = 50.0,
    chunk: int = 256,
    squared: bool = False,
) -> Tensor:
    """Return the weighted sum of both relational distances (Park et al. 2019) of pooled features.

    Args:
        student: Map ``[N, C, H, W]`` or vectors ``[N, C]``.
        teacher: Map or vectors of any width, of the same samples.
        distance_weight: Weight of :func:`relational_distance`.
        angle_weight: Weight of :func:`relational_angle`.
        chunk: As in :func:`relational_angle`.
        squared: As in :func:`relational_distance`.
    """
    student, teacher = pool(student), pool(teacher)
    near = relational_distance(student, teacher, squared)
    return distance_weight * near + angle_weight * relational_angle(student, teacher, chunk)


def normalized_l2(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean squared difference after both got norm 1 along dimension 1."""
    return F.mse_loss(unit(student), unit(teacher))


def cosine_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Return 1 minus the mean cosine along dimension 1: 0 for parallel features, 2 for opposite ones."""
    return 1 - (unit(student) * unit(teacher)).sum(1).mean()


BASE_DISTANCES: dict[str, Distance] = dict(l2=F.mse_loss, l1=F.l1_loss, l2_norm=normalized_l2, cosine=cosine_distance)


def dense(student: Tensor, teacher: Tensor, base: Distance = F.mse_loss) -> Tensor:
    """Return a distance between whole maps.

    Args:
        student: Map ``[N, C, H, W]``, projected to the width of the teacher; resized to its positions.
        teacher: Map ``[N, C, H', W']``.
        base: Distance of two tensors of one shape, such as one of ``BASE_DISTANCES``.
    """
    return base(_resized(student, teacher), teacher)


def _resized(features: Tensor, like: Tensor) -> Tensor:
    if features.shape[2:] == like.shape[2:]:
        return features
    return F.interpolate(features, like.shape[2:], mode='bilinear', align_corners=False)


def soft_target(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return ``T^2 KL(teacher || student)`` of the softened predictions, mean over samples (Hinton et al. 2015).

    Args:
        student: Logits ``[N, K]``.
        teacher: Logits ``[N, K]``.
        temperature: Divides the logits; its square keeps the size of the gradient.
    """
    predicted, target = (F.log_softmax(logits / temperature, dim=1) for logits in (student, teacher))
    return temperature**2 * F.kl_div(predicted, target, reduction='batchmean', log_target=True)
