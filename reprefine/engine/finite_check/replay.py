"""The file from which a training step can be run again."""

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

from .nonfinite import TrainStep
from .plain_data import to_plain

FORMAT = 'reprefine replay 1'
PACKAGE = __name__.partition('.')[0]


def get_attributes(model: nn.Module) -> dict[str, Any]:
    """Return the flags, numbers and strings of a model, which a run may have changed and no state dict holds.

    Args:
        model: The model.

    Returns:
        Values by dotted path of the attribute, also of objects of this package that are no modules.
    """
    seen: set[int] = set()
    modules = model.named_modules()
    return dict(
        item for prefix, module in modules for item in _attributes(module, f'{prefix}.' if prefix else '', seen)
    )


def _attributes(owner: Any, prefix: str, seen: set[int]) -> Iterator[tuple[str, Any]]:
    seen.add(id(owner))
    for name, value in getattr(owner, '__dict__', {}).items():
        if type(value) in (bool, int, float, str):
            yield prefix + name, value
        elif _is_own_object(value) and id(value) not in seen:
            yield from _attributes(value, f'{prefix}{name}.', seen)


def _is_own_object(value: Any) -> bool:
    return type(value).__module__.partition('.')[0] == PACKAGE and not isinstance(value, nn.Module)


def set_attributes(model: nn.Module, values: dict[str, Any]) -> None:
    """Set the result of :func:`get_attributes`, as far as the model has the attributes."""
    for path, value in values.items():
        owner: Any = model
        *parents, name = path.split('.')
        for parent in parents:
            owner = getattr(owner, parent, None)
        if name in getattr(owner, '__dict__', {}):
            setattr(owner, name, value)


def take_snapshot(model: nn.Module, batch: Any, hooks: Sequence[Hook] = ()) -> dict[str, Any]:
    """Return copies of everything that the next step depends on.

    Args:
        model: The model without a distributed wrapper. Its state is copied on its device.
        batch: The batch of the data loader.
        hooks: The hooks of the run. One that changes the model beyond its state dict has a method
            ``replay_state()``, and ``prepare_replay(model, state)`` that changes another model likewise.
    """
    try:
        plain = to_plain(batch)
    except TypeError as error:
        plain = error  # raised if the snapshot is written
    return dict(
        state_dict={
            name: value.detach().clone() for name, value in model.state_dict().items() if torch.is_tensor(value)
        },
        trainable=[name for name, parameter in model.named_parameters() if parameter.requires_grad],
        settings=get_attributes(model),
        hooks={type(hook).__name__: deepcopy(hook.replay_state()) for hook in hooks if hasattr(hook, 'replay_state')},
        random_state=get_rng_state(),
        batch=plain,
    )


def write_replay(work_dir: str, step: TrainStep, wrapper: OptimWrapper, model: nn.Module) -> str:
    """Write a step with its snapshot into the work dir, as a file for weights-only loading.

    Args:
        work_dir: The folder.
        step: The step.
        wrapper: Optimizer wrapper, for its autocast type.
        model: The model.

    Returns:
        Path of the file.

    Raises:
        TypeError: If the batch holds objects that :func:`.plain_data.to_plain` refuses.
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
    """Return the name of the autocast type of the forward pass, None without autocast."""
    device = next(model.parameters()).device.type
    with wrapper.optim_context(model):
        dtype = str(torch.get_autocast_dtype(device)).removeprefix('torch.')
        return dtype if torch.is_autocast_enabled(device) else None


def read_replay(filename: str) -> dict[str, Any]:
    """Read a file of :func:`write_replay`; the batch stays plain data until the classes of the model are imported.

    Raises:
        UserError: If it is missing, corrupted or another kind of file.
    """
    content = read_checkpoint(filename)
    if content.get('format') != FORMAT:
        raise UserError(f'{filename} is no replay file: training with finite_check.replay=True writes them')
    return content
