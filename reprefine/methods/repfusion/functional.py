"""Formulas of the teacher's input and of timestep selection (arXiv 2308.10916), as pure functions.

Symbols: ``t`` timestep of a sample, ``T`` number of timesteps, ``pi`` policy, ``R`` reward, ``H`` entropy in nats.
``N`` samples of a batch, ``A`` actions, ``C`` channels, ``K`` classes.
"""

import inspect
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from reprefine.engine.errors import UserError

Reward = Callable[..., Tensor]


def add_noise(x0: Tensor, t: Tensor, alphas_cumprod: Tensor, eps: Tensor) -> Tensor:
    """Return the forward process ``sqrt(abar_t) x0 + sqrt(1 - abar_t) eps`` (Ho et al. 2020, eq. 4).

    Args:
        x0: Images ``[N, C, H, W]``.
        t: Timesteps ``[N]``.
        alphas_cumprod: ``abar``, the cumulative product of ``1 - beta``, ``[T]``.
        eps: Standard normal noise of the shape of ``x0``.
    """
    # In half precision the first entry, 0.9999, would be 1, and its noise 0.
    dtype = torch.promote_types(alphas_cumprod.dtype, x0.dtype)
    abar_t = alphas_cumprod.to(dtype)[t].view(-1, *[1] * (x0.dim() - 1))
    return abar_t.sqrt().to(x0.dtype) * x0 + (1 - abar_t).sqrt().to(x0.dtype) * eps


def to_symmetric_range(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Denormalise images and scale them to the range [-1, 1] of diffusion models: ``(x std + mean) / 127.5 - 1``.

    Args:
        x: Images ``[N, C, H, W]``, normalised by ``(pixel - mean) / std``.
        mean: Channel means of pixels in 0..255, ``[C, 1, 1]`` or broadcastable to it.
        std: Standard deviations, of the same shape.
    """
    return (x * std + mean) / 127.5 - 1


def linear_decay(epoch: int, start: float, end: float, epochs: int) -> float:
    """Return the value in ``epoch`` of a linear schedule from ``start`` to ``end``, which is constant after ``epochs``.

    It is a function of the epoch alone, so that resuming past the end keeps the end value.
    """
    return end if epoch >= epochs else start - (start - end) * epoch / epochs


def max_timestep_at(epoch: int, start: int = 1000, end: int = 50, epochs: int = 100) -> int:
    """Return the exclusive upper limit of the timesteps in ``epoch``, rounded down."""
    return end if epoch >= epochs else int(start - (start - end) * epoch / epochs)


def policy_loss(log_probs: Tensor, advantages: Tensor) -> Tensor:
    """Return the REINFORCE loss ``-mean(log pi(t_i | x_i) A_i)``.

    Args:
        log_probs: ``log pi(t_i | x_i)``, ``[N]``.
        advantages: Rewards minus the reward baseline ``[N]``; detached.
    """
    return -(log_probs * advantages.detach()).mean()


def entropy(log_probs: Tensor) -> Tensor:
    """Return the entropy ``[N]`` in nats of ``[N, A]`` log-probabilities; ``-inf`` is allowed."""
    finite = log_probs.masked_fill(log_probs == float('-inf'), 0)
    return -(log_probs.exp() * finite).sum(dim=-1)


def entropy_loss(entropies: Tensor, weight: float) -> Tensor:
    """Return ``-(weight / N) sum_i H(pi(. | x_i))`` for entropies ``[N]``."""
    return -weight * entropies.mean()


def l2_normalize(x: Tensor, dim: int = 1, min_norm: Tensor | float = 0.0) -> Tensor:
    """Divide vectors by their L2 norm; those of norm ``min_norm`` or less become 0, without a gradient.

    :func:`torch.nn.functional.normalize` gives a zero vector a gradient of 1e12.

    Args:
        x: Vectors along ``dim``.
        dim: Dimension of the vectors.
        min_norm: Largest norm that counts as zero.
    """
    norm = x.norm(dim=dim, keepdim=True)
    return x / torch.where(norm > min_norm, norm, torch.inf)


def info_nce(queries: Tensor, keys: Tensor, temperature: float = 0.1) -> Tensor:
    """Return InfoNCE of each row ``[N]``: the cross-entropy of cosine similarities against the diagonal.

    Args:
        queries: ``[N, C]``.
        keys: ``[N, C]``; key i is the positive of query i.
        temperature: Divides the cosine similarities.
    """
    logits = l2_normalize(queries) @ l2_normalize(keys).T / temperature
    return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device), reduction='none')


def labelled_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy over the labelled samples; 0, with gradients, if there are none.

    Args:
        logits: ``[N, K]``.
        labels: Classes ``[N]``, -1 for an unlabelled sample.
    """
    total = F.cross_entropy(logits, labels, ignore_index=-1, reduction='sum')
    return total / (labels >= 0).sum().clamp(min=1)


def neg_ce(logits: Tensor | None, feats: Tensor, labels: Tensor | None) -> Tensor:
    """Return the reward ``-CE(head(f_i), y_i)``, ``[N]``, of the task head on the teacher's feature."""
    return -F.cross_entropy(logits, labels, reduction='none')


def neg_info_nce(logits: Tensor | None, feats: Tensor, labels: Tensor | None) -> Tensor:
    """Return the reward ``-InfoNCE(f, f)``, ``[N]``: how well features separate the samples; needs no labels."""
    return -info_nce(feats, feats)


def accuracy(logits: Tensor | None, feats: Tensor, labels: Tensor | None) -> Tensor:
    """Return the reward ``[N]``: 1 for a correct prediction of the task head, 0 otherwise."""
    return (logits.argmax(dim=1) == labels).to(feats.dtype)


def neg_feature_mse(logits: Tensor | None, feats: Tensor, labels: Tensor | None, student: Tensor) -> Tensor:
    """Return the reward ``-0.1 mean_c (p_ic - f_ic)^2``, ``[N]``: the negative error of the student.

    Args:
        logits: Unused.
        feats: Pooled features ``f`` of the teacher, ``[N, C]``.
        labels: Unused.
        student: Projected and pooled features ``p`` of the student, ``[N, C]``.

    Raises:
        UserError: If the numbers of channels differ.
    """
    if student.shape != feats.shape:
        raise UserError(
            f"reward 'neg_feature_mse': the student's feature has {student.shape[1]} channels, but the teacher's "
            f'{feats.shape[1]}: use a loss that projects, such as reprefine.HintLoss'
        )
    return -0.1 * (student - feats).square().mean(dim=1)


REWARDS: dict[str, Reward] = dict(
    neg_ce=neg_ce, neg_info_nce=neg_info_nce, accuracy=accuracy, neg_feature_mse=neg_feature_mse
)
# Rewards that need labels.
LABEL_REWARDS = (neg_ce, accuracy)


def get_reward(reward: str | Reward) -> Reward:
    """Return a reward function ``reward(logits, feats, labels) -> [N]`` by its name.

    The label of an unlabelled image is -1; ``labels`` is None without data samples. A function with a parameter
    ``student`` also gets the student's pooled features.

    Args:
        reward: Name, or the function itself.

    Raises:
        UserError: If there is no reward of that name.
    """
    if callable(reward):
        return reward
    if reward not in REWARDS:
        raise UserError(f"unknown reward '{reward}': use {', '.join(REWARDS)} or a function")
    return REWARDS[reward]


def uses_student(reward: Reward) -> bool:
    """Return whether a reward function has a parameter ``student``."""
    return 'student' in inspect.signature(reward).parameters


def ema_update(average: Tensor, value: Tensor, momentum: float = 0.1) -> Tensor:
    """Return the exponential moving average ``(1 - momentum) average + momentum value``."""
    return torch.lerp(average, value, momentum)


def effective_rank(features: Tensor) -> float:
    """Return the effective rank of features ``[N, D]`` (Roy & Vetterli 2007): ``exp(H)`` of their singular values."""
    singular = torch.linalg.svdvals(features.double())
    share = singular / singular.sum()
    return torch.special.entr(share).sum().exp().item()


def check_timesteps(timesteps: Sequence[int], num_timesteps: int, setting: str) -> None:
    """Check that timesteps are in ``0 .. num_timesteps - 1``.

    Args:
        timesteps: The timesteps.
        num_timesteps: Number of timesteps of the teacher.
        setting: Name of the setting, for the message.

    Raises:
        UserError: If one is outside.
    """
    for t in timesteps:
        if not 0 <= t < num_timesteps:
            raise UserError(f'{setting}: timestep {t} is outside 0..{num_timesteps - 1}, the timesteps of the teacher')


def map_labels(wnids: Sequence[str], teacher_wnids: Sequence[str]) -> list[int]:
    """Return the teacher's class index of each class of a dataset, both in sorted order of their WordNet ids.

    Args:
        wnids: WordNet ids of the dataset's classes, in any order.
        teacher_wnids: WordNet ids of the teacher's classes, in any order.

    Raises:
        UserError: If the teacher has no such class.
    """
    index = {wnid: i for i, wnid in enumerate(sorted(teacher_wnids))}
    if absent := sorted(set(wnids) - index.keys()):
        raise UserError(
            f'label_map: the teacher has no class {absent[0]} ({len(absent)} of {len(wnids)} are missing): give a list '
            'of its classes'
        )
    return [index[wnid] for wnid in sorted(wnids)]
