"""Finds the batch norm that follows each convolution, by tracing a forward pass instead of the registration order."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from mmcv.cnn import ConvModule
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from reprefine.engine.errors import one_line
from reprefine.models.split_batch_norm import SplitBatchNorm2d

from .example_inputs import ForwardCall, candidate_calls, eval_mode

# A subclass with another forward, such as timm's BatchNormAct2d, cannot be fused with a convolution.
FORWARDS = (_BatchNorm.forward, nn.SyncBatchNorm.forward, SplitBatchNorm2d.forward)


def is_exact_batch_norm(module: nn.Module | None) -> bool:
    """Return whether a module computes a batch norm and nothing else."""
    return isinstance(module, _BatchNorm) and type(module).forward in FORWARDS


@dataclass
class NormTrace:
    """Result of :func:`trace_norms`.

    Attributes:
        norms: For each convolution that ran, the batch norm that is the only consumer of its output and has no other
            input, else None.
        call: The call that was traced; None if none succeeded.
        failure: Message of the first call that failed, if none succeeded.
    """

    norms: dict[nn.Module, nn.Module | None] = field(default_factory=dict)
    call: ForwardCall | None = None
    failure: str = ''


class _ConsumerRecorder(TorchDispatchMode):
    """Records the consumers of the outputs of convolutions: leaf modules, or operations outside of leaf modules."""

    def __init__(self) -> None:
        super().__init__()
        self.running: list[nn.Module] = []
        self.outputs: dict[int, tuple[nn.Module, Tensor, set]] = {}  # by id, unique as long as the tensor is referenced
        self.sources: dict[nn.Module, set[nn.Module | None]] = {}  # for each norm, the modules that compute its input

    def __torch_dispatch__(
        self, func: Callable, types: object, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> object:
        self._record((args, kwargs), self.running[-1] if self.running else func)
        return func(*args, **(kwargs or {}))

    def _record(self, tree: object, consumer: object) -> None:
        for leaf in tree_leaves(tree):
            if id(leaf) in self.outputs:
                self.outputs[id(leaf)][2].add(consumer)

    def enter(self, module: nn.Module, args: tuple) -> None:
        """Record the inputs of a leaf module; a forward pre-hook."""
        if isinstance(module, _BatchNorm):
            source = self.outputs.get(id(args[0])) if args else None
            self.sources.setdefault(module, set()).add(source and source[0])
        if not isinstance(module, nn.Identity):
            self._record(args, module)
        self.running.append(module)

    def leave(self, module: nn.Module, _: tuple, output: object) -> None:
        """Record the output of a leaf module; a forward hook."""
        self.running.pop()
        if isinstance(module, nn.Conv2d):
            self.outputs[id(output)] = module, output, set()

    def match_norms(self, output: object) -> dict[nn.Module, nn.Module | None]:
        """Return the norm of each convolution that ran, given the output of the model."""
        self._record(output, 'caller')
        consumers: dict[nn.Module, set] = {}
        for conv, _, found in self.outputs.values():
            consumers.setdefault(conv, set()).update(found or {'none'})
        norms = {}
        for conv, (first, *others) in consumers.items():
            is_pair = not others and is_exact_batch_norm(first) and self.sources.get(first) == {conv}
            norms[conv] = first if is_pair else None
        return norms


def trace_norms(model: nn.Module, example: Tensor | tuple | None = None) -> NormTrace:
    """Trace one forward pass of a model in evaluation mode, without gradients.

    Args:
        model: Any module; not changed.
        example: Its input, a tuple for several inputs; None tries random ones, see
            :func:`~.example_inputs.candidate_calls`.
    """
    failure = ''
    for call in candidate_calls(model, example):
        try:
            return NormTrace(_trace(model, call), call)
        except Exception as error:  # a model may raise anything on an input of the wrong shape
            failure = failure or f'the model does not run on {call} ({type(error).__name__}: {one_line(error)[:120]})'
    return NormTrace(failure=failure)


def _trace(model: nn.Module, call: ForwardCall) -> dict[nn.Module, nn.Module | None]:
    recorder = _ConsumerRecorder()
    with ExitStack() as stack:
        stack.enter_context(eval_mode(model))
        for module in model.modules():
            if not list(module.children()) and not isinstance(module, torch.jit.ScriptModule):
                # Innermost, so that operations of other hooks on the input or output count as consumers.
                stack.callback(module.register_forward_pre_hook(recorder.enter).remove)
                stack.callback(module.register_forward_hook(recorder.leave, prepend=True).remove)
        with recorder:
            output = call(model)
    return recorder.match_norms(output)


def norm_by_class(parent: nn.Module, attribute: str) -> nn.Module | None:
    """Return the norm that a ConvModule or ``nn.Sequential`` applies to the output of a child; None if there is none.

    Args:
        parent: Module that contains the convolution.
        attribute: Name of the convolution in it.

    Raises:
        LookupError: If only a forward pass can show it.
    """
    children = dict(parent.named_children())
    if isinstance(parent, ConvModule):
        order = ''.join(part[0] for part in parent.order)
        return children.get(parent.norm_name) if 'cn' in order and parent.with_norm else None
    if type(parent).forward is nn.Sequential.forward:
        names = list(children)
        following = names[names.index(attribute) + 1 :]
        return children[following[0]] if following else None
    norms = [child for child in children.values() if isinstance(child, _BatchNorm)]
    if any(norm.num_features == children[attribute].out_channels for norm in norms):
        raise LookupError
    return None
