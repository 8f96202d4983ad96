"""Which loss terms, gradients and samples of a training step are not finite, and the message with them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from reprefine.engine.errors import UserError

from .sample_ids import nonfinite_inputs, sample_ids, shorten

MAX_RANKS = 4  # in the message


class NonFiniteError(UserError):
    """The loss or the gradient of a training step is NaN or infinite."""


@dataclass
class TrainStep:
    """A training iteration, kept until its check is read.

    Attributes:
        iteration: Its number, from 1.
        epoch: Number of its epoch, from 1.
        batch: The batch of the data loader.
        terms: The loss terms, scalars on the device.
        parameters: Parameters that had a gradient at the update.
        norms: Their gradients' norms, on the device; None if the gradients themselves can still be read.
        snapshot: Result of :func:`.replay.take_snapshot`, None without replay.
    """

    iteration: int
    epoch: int
    batch: Any = None
    terms: dict[str, Tensor] = field(default_factory=dict)
    parameters: Sequence[nn.Parameter] = ()
    norms: Tensor | None = None
    snapshot: dict[str, Any] | None = None


@dataclass(frozen=True)
class RankReport:
    """What is not finite on one rank.

    Attributes:
        rank: The rank.
        terms: Its loss terms that are not finite.
        gradients: Names of the parameters whose gradient is not finite.
        samples: Ids of its samples; only those whose input is not finite if there are any.
        file: The replay file, None if there is none.
    """

    rank: int
    terms: dict[str, float]
    gradients: list[str]
    samples: list[str]
    file: str | None = None


def gradient_norms(parameters: Sequence[nn.Parameter]) -> Tensor:
    """Return the 2-norm of each parameter's gradient without waiting for the device.

    Args:
        parameters: At least one, each with a gradient.

    Returns:
        Tensor of shape ``(len(parameters),)``.
    """
    grads = [_values(parameter.grad) for parameter in parameters]
    # Squares of float16 overflow far below its largest number.
    dtype = torch.float32 if any(grad.dtype is torch.float16 for grad in grads) else None
    norms = torch._foreach_norm(grads, 2, dtype=dtype)
    return torch.stack([norm.to(norms[0].device) for norm in norms])


def _values(grad: Tensor) -> Tensor:
    return grad.coalesce().values() if grad.is_sparse else grad


def nonfinite_terms(terms: Mapping[str, Tensor]) -> dict[str, float]:
    """Return the loss terms that are NaN or infinite; the sum ``loss`` only if no term explains it."""
    values = {name: float(value) for name, value in terms.items() if 'loss' in name}
    nonfinite = {name: value for name, value in values.items() if not math.isfinite(value)}
    return {name: value for name, value in nonfinite.items() if name != 'loss'} or nonfinite


def find_nonfinite(step: TrainStep, names: Mapping[int, str], rank: int) -> RankReport:
    """Find what is not finite in a failed step; this waits for the device.

    Args:
        step: The step.
        names: The name of each parameter by its ``id``.
        rank: The rank of this process.
    """
    samples = sample_ids(step.batch)
    nonfinite = [samples[index] for index in nonfinite_inputs(step.batch, len(samples))]
    return RankReport(
        rank,
        nonfinite_terms(step.terms),
        [
            names.get(id(parameter), 'a parameter outside the model')
            for parameter in _parameters_with_nonfinite_gradient(step)
        ],
        [f'{name} (its input is not finite)' for name in nonfinite] or samples,
    )


def _parameters_with_nonfinite_gradient(step: TrainStep) -> list[nn.Parameter]:
    if step.norms is not None:
        finite = step.norms.isfinite().tolist()
    else:
        finite = [p.grad is None or bool(_values(p.grad).isfinite().all()) for p in step.parameters]
    return [parameter for parameter, is_finite in zip(step.parameters, finite, strict=True) if not is_finite]


def format_error(step: TrainStep, ranks: Sequence[RankReport], remedy: str) -> str:
    """Return the message: the iteration, what is not finite, the samples and the remedy.

    Args:
        step: The step that failed.
        ranks: The reports of all ranks.
        remedy: What to do.
    """
    failed = [report for report in ranks if report.terms]
    kind = 'loss' if failed else 'gradient'
    failed = failed or list(ranks)
    several = len(ranks) > 1
    causes = [
        (f'rank {report.rank}: ' if several else '') + f'{_cause(report)}; samples: {_samples(report, step)}'
        for report in failed[:MAX_RANKS]
    ]
    if len(failed) > MAX_RANKS:
        causes.append(f'{len(failed) - MAX_RANKS} more ranks, see the log')
    cause = '; '.join(causes)
    return f'{kind} is not finite at iteration {step.iteration} (epoch {step.epoch}): {cause}; {remedy}'


def _cause(report: RankReport) -> str:
    if report.terms:
        return ', '.join(f'{name} = {value}' for name, value in report.terms.items())
    if report.gradients:
        return f'all loss terms are finite, the gradient of {shorten(report.gradients)} is not'
    return "all loss terms and gradients are finite, the gradient's norm is too large for its type"


def _samples(report: RankReport, step: TrainStep) -> str:
    return shorten(report.samples) or f'those of batch {step.iteration}, which have no ids'
