"""What is known of a step whose loss or gradient is not finite, and how it is told."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from reprefine.engine.errors import UserError

from .sample_ids import broken_inputs, sample_ids, shortened

RANKS = 4  # more than these would make no readable line


class NonFiniteError(UserError):
    """The loss or the gradient of a training step is NaN or infinite."""


@dataclass
class Step:
    """One training step, as far as it is kept until it is known to be sound.

    Attributes:
        iteration: Its number, from 1.
        epoch: Number of its epoch, from 1.
        batch: What the data loader gave.
        terms: The loss terms, scalars on the device.
        parameters: Parameters that had a gradient at the update.
        norms: Their gradients' norms, on the device; None if the gradients are still there to be looked at.
        snapshot: What a replay needs, if one is wanted.
    """

    iteration: int
    epoch: int
    batch: Any = None
    terms: dict[str, Tensor] = field(default_factory=dict)
    parameters: Sequence[nn.Parameter] = ()
    norms: Tensor | None = None
    snapshot: dict[str, Any] | None = None


@dataclass(frozen=True)
class Finding:
    """What one process found.

    Attributes:
        rank: Number of the process.
        terms: Its loss terms that are not finite.
        gradients: Names of the parameters whose gradient is not finite.
        samples: Ids of its samples; only those with broken input if there are any.
        file: The replay file, None if there is none.
    """

    rank: int
    terms: dict[str, float]
    gradients: list[str]
    samples: list[str]
    file: str | None = None


def gradient_norms(parameters: Sequence[nn.Parameter]) -> Tensor:
    """Return the norm of each parameter's gradient without waiting for the device.

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


def non_finite_terms(terms: Mapping[str, Tensor]) -> dict[str, float]:
    """Return the loss terms that are NaN or infinite; the sum ``loss`` only if no term explains it."""
    values = {name: float(value) for name, value in terms.items() if 'loss' in name}
    broken = {name: value for name, value in values.items() if not math.isfinite(value)}
    return {name: value for name, value in broken.items() if name != 'loss'} or broken


def find(step: Step, names: Mapping[int, str], rank: int) -> Finding:
    """Look at a failed step; this waits for the device.

    Args:
        step: The step.
        names: The name of each parameter by its ``id``.
        rank: Number of this process.
    """
    samples = sample_ids(step.batch)
    broken = [samples[index] for index in broken_inputs(step.batch, len(samples))]
    return Finding(
        rank,
        non_finite_terms(step.terms),
        [names.get(id(parameter), 'a parameter outside the model') for parameter in _without_finite_gradient(step)],
        [f'{name} (its input is not finite)' for name in broken] or samples,
    )


def _without_finite_gradient(step: Step) -> list[nn.Parameter]:
    if step.norms is not None:
        sound = step.norms.isfinite().tolist()
    else:
        sound = [p.grad is None or bool(_values(p.grad).isfinite().all()) for p in step.parameters]
    return [parameter for parameter, is_sound in zip(step.parameters, sound, strict=True) if not is_sound]


def message(step: Step, findings: Sequence[Finding], remedy: str) -> str:
    """Return the line that tells where, what, with which samples, and what to do.

    Args:
        step: The step that failed.
        findings: What every process found.
        remedy: What to do.
    """
    guilty = [finding for finding in findings if finding.terms]
    kind = 'loss' if guilty else 'gradient'
    guilty = guilty or list(findings)
    several = len(findings) > 1
    causes = [
        (f'rank {finding.rank}: ' if several else '') + f'{_cause(finding)}; samples: {_samples(finding, step)}'
        for finding in guilty[:RANKS]
    ]
    if len(guilty) > RANKS:
        causes.append(f'{len(guilty) - RANKS} more ranks, see the log')
    cause = '; '.join(causes)
    return f'{kind} is not finite at iteration {step.iteration} (epoch {step.epoch}): {cause}; {remedy}'


def _cause(finding: Finding) -> str:
    if finding.terms:
        return ', '.join(f'{name} = {value}' for name, value in finding.terms.items())
    if finding.gradients:
        return f'all loss terms are finite, the gradient of {shortened(finding.gradients)} is not'
    return "all loss terms and gradients are finite, the gradient's norm is too large for its type"


def _samples(finding: Finding, step: Step) -> str:
    return shortened(finding.samples) or f'those of batch {step.iteration}, which have no ids'
