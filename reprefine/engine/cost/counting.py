"""Parameters and FLOPs of a model and of its child modules."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from .inputs import InputBatch


def _attention_flops(query: torch.Size, key: torch.Size, value: torch.Size, *args: object, **kwargs: object) -> int:
    return sdpa_flop_count(query, key, value)


# The kernel behind F.scaled_dot_product_attention on a CPU has no formula in torch.
EXTRA_FORMULAS = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops}


@dataclass(frozen=True)
class ModuleCost:
    """Cost of a module of a model.

    Attributes:
        name: Dotted name within the model; empty for the whole model.
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
    """Count the FLOPs of a function: two per multiply-add of matrix products, convolutions and attention.

    Args:
        work: The function; its backward passes count as well.
    """
    with FlopCounterMode(display=False, custom_mapping=EXTRA_FORMULAS) as counter:
        work()
    return counter.get_total_flops()


def forward(model: nn.Module, data: dict | tuple | list, mode: str) -> object:
    """Run an OpenMMLab model on a preprocessed batch.

    Args:
        model: The model.
        data: Output of its data preprocessor.
        mode: ``loss``, ``predict`` or ``tensor``.
    """
    return model(**data, mode=mode) if isinstance(data, dict) else model(*data, mode=mode)


@torch.no_grad()
def count_module_costs(model: nn.Module, batch: InputBatch) -> list[ModuleCost]:
    """Count parameters and FLOPs of a model and of its child modules.

    FLOPs are two per multiply-add of the matrix products, convolutions and attention in ``mode='tensor'``; everything
    else (normalisation, activations, custom operators of mmcv) counts as zero.

    Args:
        model: An OpenMMLab model; counted in evaluation mode, its mode is restored.
        batch: Input; preprocessing is not counted.

    Returns:
        The whole model first, then the child modules that have parameters or FLOPs.
    """
    training = model.training
    model.eval()
    data = model.data_preprocessor(copy.deepcopy(batch.data), False)
    with FlopCounterMode(display=False, custom_mapping=EXTRA_FORMULAS) as counter:
        forward(model, data, 'tensor')
    model.train(training)
    per_module = {name: sum(counts.values()) for name, counts in counter.get_flop_counts().items()}
    root = type(model).__name__
    whole = ModuleCost('', count_parameters(model), counter.get_total_flops() / batch.size)
    children = [
        ModuleCost(name, count_parameters(module), _flops_below(per_module, f'{root}.{name}') / batch.size)
        for name, module in model.named_children()
    ]
    return [whole, *(child for child in children if child.parameters or child.flops)]


def _flops_below(per_module: dict[str, int], name: str) -> int:
    """Sum the outermost recorded modules at or below ``name``: heads called past ``__call__`` are not recorded."""
    inside = [key for key in per_module if key == name or key.startswith(f'{name}.')]
    outermost = [key for key in inside if not any(key.startswith(f'{other}.') for other in inside)]
    return sum(per_module[key] for key in outermost)
