"""The cost of training that each method of a config adds."""

from collections.abc import Callable, Iterator, Sequence

import torch
from mmengine.config import Config

from .counting import count_flops, count_parameters
from .methods import Method, find_methods, remove_method
from .models import build_untrained
from .phases import training_phases
from .rows import TRAINED, CostRow, constant_row
from .workloads import Workloads

Measure = Callable[[Config], float]
REST = 'the rest of the model'


def method_cost_rows(configs: Sequence[Config], workloads: Workloads, flops: bool, no_data: str) -> list[CostRow]:
    """Return the parameters and FLOPs of a training step, in total and by method.

    Args:
        configs: The config and its baseline.
        workloads: Prepares training steps.
        flops: Whether to count FLOPs beside parameters.
        no_data: Reason if there is no training batch.

    Returns:
        The rows, none if neither config has a method that can be removed.
    """
    names = list(dict.fromkeys(str(method) for cfg in configs for method in find_methods(cfg)))
    if not names:
        return []
    rows = _rows('training parameters', '', configs, names, lambda cfg: count_parameters(build_untrained(cfg)), '')
    name = 'training step FLOPs per image'
    if flops and workloads.train_batch is None:
        return [*rows, CostRow(name, 'FLOP', TRAINED, not_measured=no_data)]
    if flops:
        source = workloads.train_batch.source
        rows += _rows(name, 'FLOP', configs, names, lambda cfg: step_flops(cfg, workloads), source)
    return rows


def _rows(
    name: str, unit: str, configs: Sequence[Config], methods: Sequence[str], measure: Measure, source: str
) -> list[CostRow]:
    sides = [costs_by_method(cfg, measure) for cfg in configs]
    values = {name: [sum(side.values()) for side in sides]}
    values |= {f'{name}, {method}': [side.get(method, 0) for side in sides] for method in (*methods, REST)}
    return [constant_row(title, unit, pair, TRAINED, source) for title, pair in values.items()]


def costs_by_method(cfg: Config, measure: Measure) -> dict[str, float]:
    """Return the cost that each method of a config adds, and :data:`REST`; the sum is the cost of the config.

    The methods are removed one after the other, the outermost first: the cost of a method is what it adds to the model
    with the methods within it.

    Args:
        cfg: Complete config.
        measure: Returns the cost of a config.
    """
    ablated = list(_ablated_configs(cfg))
    costs = [measure(config) for _, config in ablated]
    added = [cost - without for cost, without in zip(costs, costs[1:], strict=False)]
    names = [str(method) for method, _ in ablated[1:]]
    return dict(zip(names, added, strict=True)) | {REST: costs[-1]}


def _ablated_configs(cfg: Config) -> Iterator[tuple[Method | None, Config]]:
    """Yield a config, then the same with one more method removed each time, and the method."""
    yield None, cfg
    for method in find_methods(cfg):
        cfg = remove_method(cfg, method)
        yield method, cfg


def step_flops(cfg: Config, workloads: Workloads) -> float:
    """Return the FLOPs per image of a training step, forward and backward, on average over the schedule.

    Args:
        cfg: Complete config.
        workloads: Prepares training steps.
    """
    model = build_untrained(cfg, workloads.device)
    optimizer = workloads.build_optim_wrapper(cfg, model)
    total = 0.0
    for phase in training_phases(cfg):
        torch.manual_seed(0)
        total += phase.share * count_flops(workloads.train_step(model, optimizer, phase)())
    return total / workloads.train_batch.size
