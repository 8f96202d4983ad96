"""Formulas of the teacher and of the choice of timesteps (arXiv 2308.10916), as pure functions.

Symbols: ``t`` timestep of a sample, ``T`` number of timesteps, ``abar`` cumulative product of ``1 - beta``, ``pi``
policy, ``R`` reward, ``H`` entropy in nats. ``N`` samples of a batch, ``C`` channels, ``K`` classes.
"""

import inspect
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from reprefine.engine.errors import UserError

Reward = Callable[..., Tensor]


def add_noise(x0: Tensor, t: Tensor, abar: Tensor, eps: Tensor) -> Tensor:
    """Diffuse images forward: ``sqrt(abar_t) x0 + sqrt(1 - abar_t) eps``.

    Args:
        x0: Images ``[N, C, H, W]``.
        t: Timesteps ``[N]``, indices into ``abar``.
        abar: Noise schedule ``[T]``.
        eps: Standard normal noise, as ``x0``.
    """
    # In half precision the first entry, 0.9999, would be 1, and its noise 0.
    at_t = abar.to(torch.promote_types(abar.dtype, x0.dtype))[t].view(-1, *[1] * (x0.dim() - 1))
    return at_t.sqrt().to(x0.dtype) * x0 + (1 - at_t).sqrt().to(x0.dtype) * eps


def to_unit_range(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Turn normalised images into the range of diffusion models: ``(x std + mean) / 127.5 - 1``.

    Args:
        x: Images ``[N, C, H, W]``, normalised by ``(pixel - mean) / std``.
        mean: Channel means in grey levels 0..255, ``[C, 1, 1]`` or broadcastable to it.
        std: Standard deviations, likewise.
    """
    return (x * std + mean) / 127.5 - 1


def linear_decay(epoch: int, start: float, end: float, epochs: int) -> float:
    """Return the value in ``epoch`` that goes linearly from ``start`` to ``end`` at ``epochs``, then stays.

    It depends on the epoch alone, so that resuming past the end keeps the end value.
    """
    return end if epoch >= epochs else start - (start - end) * epoch / epochs


def max_timestep_at(epoch: int, start: int = 1000, end: int = 50, epochs: int = 100) -> int:
    """Return the exclusive upper limit of the timesteps in ``epoch``, rounded down."""
    return end if epoch >= epochs else int(start - (start - end) * epoch / epochs)


def policy_loss(log_probs: Tensor, advantages: Tensor) -> Tensor:
    """Return the REINFORCE loss ``-mean(log pi(t_i | x_i) A_i)``.

    Args:
        log_probs: ``log pi(t_i | x_i)``, ``[N]``.
        advantages: Rewards less their baseline ``[N]``; treated as constants.
    """
    return -(log_probs * advantages.detach()).mean()


def entropy(log_probs: Tensor) -> Tensor:
    """Return the entropy ``[N]`` in nats of ``[N, A]`` log-probabilities; an action may have ``-inf``."""
    finite = log_probs.masked_fill(log_probs == float('-inf'), 0)
    return -(log_probs.exp() * finite).sum(dim=-1)


def entropy_loss(entropies: Tensor, weight: float) -> Tensor:
    """Return ``-(weight / N) sum_i H(pi(. | x_i))`` for entropies ``[N]``."""
    return -weight * entropies.mean()


def unit(x: Tensor, dim: int = 1, shortest: Tensor | float = 0.0) -> Tensor:
    """Scale vectors to length 1; those that are not longer than ``shortest`` become 0, without a gradient.

    :func:`torch.nn.functional.normalize` gives a vector of length 0 a gradient of 1e12.

    Args:
        x: Vectors along ``dim``.
        dim: Their dimension.
        shortest: Length up to which a vector has no direction.
    """
    length = x.norm(dim=dim, keepdim=True)
    return x / torch.where(length > shortest, length, torch.inf)


def info_nce(queries: Tensor, keys: Tensor, temperature: float = 0.1) -> Tensor:
    """Return one InfoNCE value a row ``[N]``: cross-entropy of cosine similarities against the diagonal.

    Args:
        queries: ``[N, C]``.
        keys: ``[N, C]``; key i belongs to query i.
        temperature: Divisor of the similarities.
    """
    logits = unit(queries) @ unit(keys).T / temperature
    return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device), reduction='none')


def labelled_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy over the samples that have a label; 0, with gradients, if none has.

    Args:
        logits: ``[N, K]``.
        labels: Classes ``[N]``, -1 for a sample without one.
    """
    total = F.cross_entropy(logits, labels, ignore_index=-1, reduction='sum')
    return total / (labels >= 0).sum().clamp(min=1)


def neg_ce(logits: Tensor | None, feats: Tensor, labels: Tensor | None) -> Tensor:
    """Return the reward ``-CE(head(f_i), y_i)``, ``[N]``: how well the task head reads the teacher's feature."""
    return -F.cross_entropy(logits, labels, reduction='none')


def neg_info_nce(logits: Tensor | None, feats: Tensor, labels: Tensor | None) -> Tensor:
    """Return the reward ``-InfoNCE(f, f)``, ``[N]``: how well the features separate the batch; needs no labels."""
    return -info_nce(feats, feats)


def accuracy(logits: Tensor | None, feats: Tensor, labels: Tensor | None) -> Tensor:
    """Return the reward 1 where the task head is right and 0 where it is not, ``[N]``."""
    return (logits.argmax(dim=1) == labels).to(feats.dtype)


def neg_feature_mse(logits: Tensor | None, feats: Tensor, labels: Tensor | None, student: Tensor) -> Tensor:
    """Return the reward ``-0.1 mean_c (p_ic - f_ic)^2``, ``[N]``: how close the student comes to the feature.

    Args:
        logits: Unused.
        feats: The teacher's pooled features ``f``, ``[N, C]``.
        labels: Unused.
        student: The student's, projected and pooled, ``p``, ``[N, C]``.

    Raises:
        UserError: If the widths differ.
    """
    if student.shape != feats.shape:
        raise UserError(
            f"reward 'neg_feature_mse' compares features of one width, but the student's has {student.shape[1]} "
            f"channels and the teacher's {feats.shape[1]}: use a loss that projects, such as reprefine.HintLoss"
        )
    return -0.1 * (student - feats).square().mean(dim=1)


REWARDS: dict[str, Reward] = dict(
    neg_ce=neg_ce, neg_info_nce=neg_info_nce, accuracy=accuracy, neg_feature_mse=neg_feature_mse
)
LABELLED = (neg_ce, accuracy)


def find_reward(reward: str | Reward) -> Reward:
    """Return a reward by its name, or the callable itself: ``reward(logits, feats, labels) -> [N]``.

    A label is -1 where an image has none; the labels are None if there are no samples. One with a parameter ``student``
    also gets the student's pooled features.

    Raises:
        UserError: If there is no reward of that name.
    """
    if callable(reward):
        return reward
    if reward not in REWARDS:
        raise UserError(f"unknown reward '{reward}': use {', '.join(REWARDS)} or a function")
    return REWARDS[reward]


def reads_student(reward: Reward) -> bool:
    """Whether a reward has a parameter ``student``."""
    return 'student' in inspect.signature(reward).parameters


def moving_average(value: Tensor, new: Tensor, momentum: float = 0.1) -> Tensor:
    """Return ``(1 - momentum) value + momentum new``."""
    return torch.lerp(value, new, momentum)


def effective_rank(features: Tensor) -> float:
    """Return ``exp`` of the entropy of the normalised singular values of ``[N, D]`` features (Roy & Vetterli, 2007)."""
    singular = torch.linalg.svdvals(features.double())
    share = singular / singular.sum()
    return torch.special.entr(share).sum().exp().item()


def check_timesteps(timesteps: Sequence[int], num_timesteps: int, what: str) -> None:
    """Refuse timesteps outside ``0 .. num_timesteps - 1``.

    Args:
        timesteps: The timesteps.
        num_timesteps: Number of steps of the teacher.
        what: Name of the setting for the message.

    Raises:
        UserError: If one is outside.
    """
    for t in timesteps:
        if not 0 <= t < num_timesteps:
            raise UserError(f'{what}: timestep {t} is outside 0..{num_timesteps - 1}, the steps of the teacher')


def map_labels(wnids: Sequence[str], teacher_wnids: Sequence[str]) -> list[int]:
    """Return for each class of a data set, in sorted order, the index of the same class among the teacher's.

    Args:
        wnids: WordNet ids of the data set's classes, in any order.
        teacher_wnids: Those of the teacher's classes, in any order.

    Raises:
        UserError: If the teacher lacks a class.
    """
    index = {wnid: i for i, wnid in enumerate(sorted(teacher_wnids))}
    if absent := sorted(set(wnids) - index.keys()):
        raise UserError(f'label_map: the teacher knows no class {absent[0]} ({len(absent)} of {len(wnids)} missing)')
    return [index[wnid] for wnid in sorted(wnids)]
