"""Running a training step from its replay file, and finding the first module whose output is not finite."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from reprefine.engine.build import build_model
from reprefine.engine.checkpoints.weights import check_match, load_weights
from reprefine.engine.errors import one_line
from reprefine.engine.resuming.rng_state import set_rng_state
from reprefine.registry import HOOKS

from .plain_data import from_plain
from .replay import set_attributes


@dataclass(frozen=True)
class Rerun:
    """Result of a step that was run again.

    Attributes:
        terms: The loss terms.
        gradients: Norm of the gradient of each parameter that has one.
        module: The first module whose output was not finite, None if all were.
        operation: The operation whose backward pass gave NaN although the loss is finite, None if none did.
    """

    terms: dict[str, float]
    gradients: dict[str, float]
    module: str | None
    operation: str | None = None

    @property
    def is_finite(self) -> bool:
        """Whether the losses and all gradients are finite."""
        losses = [value for name, value in self.terms.items() if 'loss' in name]
        return all(map(math.isfinite, [*losses, *self.gradients.values()]))

    def equals(self, terms: Mapping[str, float]) -> bool:
        """Return whether the loss terms are equal, where NaN equals NaN."""
        return self.terms.keys() == terms.keys() and all(
            self.terms[name] == value or (math.isnan(value) and math.isnan(self.terms[name]))
            for name, value in terms.items()
        )


class _BackwardOnly(OptimWrapper):
    """An optimizer wrapper that computes gradients and does not step."""

    def __init__(self, model: nn.Module, autocast: torch.dtype | None) -> None:
        super().__init__(torch.optim.SGD(model.parameters(), lr=0.0))
        self.autocast = autocast

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        device = next(model.parameters()).device.type
        with torch.autocast(device, self.autocast, enabled=self.autocast is not None):
            yield

    def step(self, **kwargs: Any) -> None:
        """Do nothing."""

    def zero_grad(self, **kwargs: Any) -> None:
        """Keep the gradients."""


def rerun(cfg: Config, content: dict[str, Any]) -> Rerun:
    """Run the step of a replay file, on the GPU if there is one.

    Args:
        cfg: The config that wrote the file.
        content: Content of the file.

    Raises:
        UserError: If the file does not belong to the config.
    """
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    model = build_model(cfg)
    model = (model if device.type == 'cuda' else revert_sync_batchnorm(model)).to(device)
    check_match(load_weights(model, content['state_dict']), f'of iteration {content["iteration"]}', min_ratio=1.0)
    _call_prepare_replay(cfg, model, from_plain(content.get('hooks', {})))
    result = _run(model, content)
    losses_are_finite = all(math.isfinite(value) for name, value in result.terms.items() if 'loss' in name)
    if losses_are_finite and not result.is_finite:
        load_weights(model, content['state_dict'])  # the step has changed the buffers
        return replace(result, operation=_failing_operation(model, content))
    return result


def _call_prepare_replay(cfg: Config, model: nn.Module, states: Mapping[str, Any]) -> None:
    """Call ``prepare_replay`` of the hooks of the config whose state is in the file."""
    for hook_cfg in cfg.get('custom_hooks') or ():
        name = str(hook_cfg['type']).rpartition('.')[2]
        if name in states:
            HOOKS.build(hook_cfg).prepare_replay(model, states[name])


def _prepare(model: nn.Module, content: dict[str, Any]) -> tuple[Any, _BackwardOnly]:
    set_attributes(model, content['settings'])
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in content['trainable'])
    model.zero_grad()
    batch = from_plain(content['batch'])
    wrapper = _BackwardOnly(model, content['autocast'] and getattr(torch, content['autocast']))
    set_rng_state(from_plain(content['random_state']))
    return batch, wrapper


def _run(model: nn.Module, content: dict[str, Any]) -> Rerun:
    batch, wrapper = _prepare(model, content)
    with record_nonfinite_modules(model) as modules:
        terms = model.train_step(batch, wrapper)
    gradients = {name: float(p.grad.norm()) for name, p in model.named_parameters() if p.grad is not None}
    return Rerun({name: float(value.detach()) for name, value in terms.items()}, gradients, next(iter(modules), None))


def _failing_operation(model: nn.Module, content: dict[str, Any]) -> str | None:
    batch, wrapper = _prepare(model, content)
    try:
        with torch.autograd.detect_anomaly():
            model.train_step(batch, wrapper)
    except RuntimeError as error:
        return one_line(error)
    return None


@contextmanager
def record_nonfinite_modules(model: nn.Module) -> Iterator[list[str]]:
    """Collect the names of the modules whose output is not finite, in the order of the forward pass."""
    found: list[str] = []

    def register(name: str, module: nn.Module) -> Any:
        def record(_: nn.Module, inputs: Any, output: Any) -> None:
            if any(not tensor.isfinite().all() for tensor in _tensors(output)):
                found.append(f'{name or "the model"} ({type(module).__name__})')

        return module.register_forward_hook(record)

    handles = [register(name, module) for name, module in model.named_modules()]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple | Mapping):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _tensors(item)
