"""Keeping a training step, and running it again."""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from torch import nn

from reprefine.engine.checkpoints.checkpoint import read_checkpoint
from reprefine.engine.errors import UserError
from reprefine.engine.files import atomic_write
from reprefine.engine.resuming.rng_state import get_rng_state

from .nonfinite import Step
from .plain_data import to_plain

FORMAT = 'reprefine replay 1'
PACKAGE = __name__.partition('.')[0]


def settings(model: nn.Module) -> dict[str, Any]:
    """Return what a run may have switched in a model: flags, numbers and strings that no state dict holds.

    Args:
        model: The model.

    Returns:
        Values by path of the attribute; parts of this package that are no modules, and parts of theirs, are entered.
    """
    seen: set[int] = set()
    modules = model.named_modules()
    return dict(item for prefix, module in modules for item in _settings(module, f'{prefix}.' if prefix else '', seen))


def _settings(owner: Any, prefix: str, seen: set[int]) -> Iterator[tuple[str, Any]]:
    seen.add(id(owner))
    for name, value in getattr(owner, '__dict__', {}).items():
        if type(value) in (bool, int, float, str):
            yield prefix + name, value
        elif _is_own_part(value) and id(value) not in seen:
            yield from _settings(value, f'{prefix}{name}.', seen)


def _is_own_part(value: Any) -> bool:
    return type(value).__module__.partition('.')[0] == PACKAGE and not isinstance(value, nn.Module)


def set_settings(model: nn.Module, values: dict[str, Any]) -> None:
    """Put back what :func:`settings` returned, as far as the model has it."""
    for path, value in values.items():
        owner: Any = model
        *parents, name = path.split('.')
        for parent in parents:
            owner = getattr(owner, parent, None)
        if name in getattr(owner, '__dict__', {}):
            setattr(owner, name, value)


def capture(model: nn.Module, batch: Any, hooks: Sequence[Hook] = ()) -> dict[str, Any]:
    """Return copies of all that the coming step depends on.

    Args:
        model: The model without a distributed wrapper. Its state is copied on its device.
        batch: What the data loader gave.
        hooks: The hooks of the run. One that gives the model a part that no state dict holds has a method
            ``replay_state()``, and ``prepare_replay(model, state)`` that gives it to another model.
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
        hooks={type(hook).__name__: deepcopy(hook.replay_state()) for hook in hooks if hasattr(hook, 'replay_state')},
        random_state=get_rng_state(),
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
    with atomic_write(path) as partial:
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
