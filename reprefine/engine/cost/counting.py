"""Parameters and FLOPs of a model and of its parts."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from .inputs import Batch


def _attention_flops(query: torch.Size, key: torch.Size, value: torch.Size, *args: object, **kwargs: object) -> int:
    return sdpa_flop_count(query, key, value)


# The kernel behind F.scaled_dot_product_attention on a CPU has no formula in torch.
EXTRA_FORMULAS = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops}


@dataclass(frozen=True)
class PartCost:
    """Cost of one part of a model.

    Attributes:
        name: Dotted name within the model; empty for the model as a whole.
        parameters: Number of parameters, trainable or not.
        flops: FLOPs per image of one forward pass.
    """

    name: str
    parameters: int
    flops: float


def count_parameters(module: nn.Module) -> int:
    """Count the parameters of a module, shared ones once."""
    return sum(parameter.numel() for parameter in module.parameters())


def count_flops(work: Callable[[], object]) -> int:
    """Count the FLOPs of a piece of work: two per multiply-add of matrix products, convolutions and attention.

    Args:
        work: The work; what it does in a backward pass counts as well.
    """
    with FlopCounterMode(display=False, custom_mapping=EXTRA_FORMULAS) as counter:
        work()
    return counter.get_total_flops()


def forward(model: nn.Module, data: dict | tuple | list, mode: str) -> object:
    """Run an OpenMMLab model on a preprocessed batch.

    Args:
        model: The model.
        data: What its data preprocessor returned.
        mode: ``loss``, ``predict`` or ``tensor``.
    """
    return model(**data, mode=mode) if isinstance(data, dict) else model(*data, mode=mode)


@torch.no_grad()
def count_cost(model: nn.Module, batch: Batch) -> list[PartCost]:
    """Count parameters and FLOPs of a model and of its top-level parts.

    FLOPs are two per multiply-add of the matrix products, convolutions and attention in ``mode='tensor'``; everything
    else (normalisation, activations, custom operators of mmcv) counts as zero.

    Args:
        model: An OpenMMLab model; counted in evaluation mode and left as it was.
        batch: Input; preprocessing is not counted.

    Returns:
        The whole model first, then the parts that have parameters or FLOPs.
    """
    training = model.training
    model.eval()
    data = model.data_preprocessor(copy.deepcopy(batch.data), False)
    with FlopCounterMode(display=False, custom_mapping=EXTRA_FORMULAS) as counter:
        forward(model, data, 'tensor')
    model.train(training)
    per_module = {name: sum(counts.values()) for name, counts in counter.get_flop_counts().items()}
    root = type(model).__name__
    whole = PartCost('', count_parameters(model), counter.get_total_flops() / batch.size)
    parts = [
        PartCost(name, count_parameters(module), _flops_below(per_module, f'{root}.{name}') / batch.size)
        for name, module in model.named_children()
    ]
    return [whole, *(part for part in parts if part.parameters or part.flops)]


def _flops_below(per_module: dict[str, int], name: str) -> int:
    """Sum the outermost recorded modules at or below ``name``: heads called past ``__call__`` are not recorded."""
    inside = [key for key in per_module if key == name or key.startswith(f'{name}.')]
    outermost = [key for key in inside if not any(key.startswith(f'{other}.') for other in inside)]
    return sum(per_module[key] for key in outermost)
