"""Keeping a training step, and running it again."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import get_rank, get_world_size
from mmengine.optim import OptimWrapper
from torch import nn

from .checkpoint import read_checkpoint
from .errors import UserError
from .files import complete_file
from .nonfinite import Step
from .plain import to_plain
from .random_state import random_state

FORMAT = 'reprefine replay 1'
PACKAGE = __name__.partition('.')[0]


def settings(model: nn.Module) -> dict[str, Any]:
    """Return what a run may have switched in a model: flags, numbers and strings that no state dict holds.

    Args:
        model: The model.

    Returns:
        Values by path of the attribute; parts of this package that are no modules are entered.
    """
    return dict(_settings(model))


def _settings(model: nn.Module) -> Iterator[tuple[str, Any]]:
    for prefix, module in model.named_modules():
        prefix = f'{prefix}.' if prefix else ''
        for name, value in vars(module).items():
            if type(value).__module__.partition('.')[0] == PACKAGE and not isinstance(value, nn.Module):
                yield from ((f'{prefix}{name}.{key}', inner) for key, inner in _simple(value))
        yield from ((prefix + name, value) for name, value in _simple(module))


def _simple(owner: Any) -> Iterator[tuple[str, Any]]:
    for name, value in getattr(owner, '__dict__', {}).items():
        if type(value) in (bool, int, float, str):
            yield name, value


def set_settings(model: nn.Module, values: dict[str, Any]) -> None:
    """Put back what :func:`settings` returned, as far as the model has it."""
    for path, value in values.items():
        owner: Any = model
        *parents, name = path.split('.')
        for parent in parents:
            owner = getattr(owner, parent, None)
        if name in getattr(owner, '__dict__', {}):
            setattr(owner, name, value)


def capture(model: nn.Module, batch: Any) -> dict[str, Any]:
    """Return copies of all that the coming step depends on.

    Args:
        model: The model without a distributed wrapper. Its state is copied on its device.
        batch: What the data loader gave.
    """
    try:
        plain = to_plain(batch)
    except TypeError as error:
        plain = error  # told when it is needed
    return dict(
        state_dict={
            name: value.detach().clone() for name, value in model.state_dict().items() if torch.is_tensor(value)
        },
        trainable=[name for name, parameter in model.named_parameters() if parameter.requires_grad],
        settings=settings(model),
        random_state=random_state(),
        batch=plain,
    )


def write_replay(work_dir: str, step: Step, wrapper: OptimWrapper, model: nn.Module) -> str:
    """Write a step with a snapshot into the work dir, as a file for weights-only loading.

    Args:
        work_dir: The folder.
        step: The step.
        wrapper: Optimiser wrapper, which knows of mixed precision.
        model: The model.

    Returns:
        The file.

    Raises:
        TypeError: If the batch holds objects that are no plain data.
    """
    if isinstance(step.snapshot['batch'], TypeError):
        raise step.snapshot['batch']
    rank = f'_rank{get_rank()}' if get_world_size() > 1 else ''
    path = Path(work_dir, f'nonfinite_iter_{step.iteration}{rank}.pth')
    content = {
        **to_plain(step.snapshot),
        'format': FORMAT,
        'iteration': step.iteration,
        'terms': {name: float(value) for name, value in step.terms.items()},
        'autocast': _autocast(wrapper, model),
    }
    with complete_file(path) as partial:
        torch.save(content, partial)
    return str(path)


def _autocast(wrapper: OptimWrapper, model: nn.Module) -> str | None:
    """Return the name of the type in which the forward pass computes, None for that of the weights."""
    device = next(model.parameters()).device.type
    with wrapper.optim_context(model):
        dtype = str(torch.get_autocast_dtype(device)).removeprefix('torch.')
        return dtype if torch.is_autocast_enabled(device) else None


def read_replay(filename: str) -> dict[str, Any]:
    """Read a file of :func:`write_replay`; the batch stays plain until the model's classes are loaded.

    Raises:
        UserError: If it is missing, damaged or another kind of file.
    """
    content = read_checkpoint(filename)
    if content.get('format') != FORMAT:
        raise UserError(f'{filename} is no replay file: training with finite_check.replay=True writes them')
    return content
