"""What each method of a combination adds to the cost of training."""

from collections.abc import Callable, Iterator, Sequence

import torch
from mmengine.config import Config

from .counting import count_flops, count_parameters
from .figures import TRAINED, Figure, exact
from .methods import Method, methods_of, without
from .models import build_untrained
from .phases import training_phases
from .steps import Steps

Measure = Callable[[Config], float]
REST = 'the rest of the model'


def training_costs(configs: Sequence[Config], steps: Steps, flops: bool, no_data: str) -> list[Figure]:
    """Return the figures of a training and what each method adds to them.

    Args:
        configs: The config and its baseline.
        steps: Prepares training steps.
        flops: Count those of a training step as well as parameters.
        no_data: Why there is no training batch.

    Returns:
        Nothing if neither config has a method that it can be built without.
    """
    names = list(dict.fromkeys(str(method) for cfg in configs for method in methods_of(cfg)))
    if not names:
        return []
    figures = _figures(
        'training parameters', '', configs, names, lambda cfg: count_parameters(build_untrained(cfg)), ''
    )
    name = 'training step FLOPs per image'
    if flops and steps.train_batch is None:
        return [*figures, Figure(name, 'FLOP', TRAINED, not_measured=no_data)]
    if flops:
        source = steps.train_batch.source
        figures += _figures(name, 'FLOP', configs, names, lambda cfg: step_flops(cfg, steps), source)
    return figures


def _figures(
    name: str, unit: str, configs: Sequence[Config], methods: Sequence[str], measure: Measure, source: str
) -> list[Figure]:
    sides = [shares(cfg, measure) for cfg in configs]
    rows = {name: [sum(side.values()) for side in sides]}
    rows |= {f'{name}, {method}': [side.get(method, 0) for side in sides] for method in (*methods, REST)}
    return [exact(row, unit, values, TRAINED, source) for row, values in rows.items()]


def shares(cfg: Config, measure: Measure) -> dict[str, float]:
    """Return what each method of a config adds, and :data:`REST`; the sum is the measure of the config itself.

    The methods are left out one after the other, the outermost first: a method's share is what it adds to the model
    with the methods within it.

    Args:
        cfg: Complete config.
        measure: Returns the cost of a config.
    """
    ladder = list(_ladder(cfg))
    costs = [measure(rung) for _, rung in ladder]
    added = [cost - less for cost, less in zip(costs, costs[1:], strict=False)]
    names = [str(method) for method, _ in ladder[1:]]
    return dict(zip(names, added, strict=True)) | {REST: costs[-1]}


def _ladder(cfg: Config) -> Iterator[tuple[Method | None, Config]]:
    """Yield a config, then the same without one more of its methods each time, and which that is."""
    yield None, cfg
    for method in methods_of(cfg):
        cfg = without(cfg, method)
        yield method, cfg


def step_flops(cfg: Config, steps: Steps) -> float:
    """Return the FLOPs per image of a training step, forward and backward, on average over the schedule.

    Args:
        cfg: Complete config.
        steps: Prepares training steps.
    """
    model = build_untrained(cfg, steps.device)
    optimizer = steps.optimizer(cfg, model)
    total = 0.0
    for phase in training_phases(cfg):
        torch.manual_seed(0)
        total += phase.share * count_flops(steps.train(model, optimizer, phase)())
    return total / steps.train_batch.size
