"""Which batch norm follows which convolution: what a forward pass does decides, never the order of registration."""

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

from .example_inputs import Call, calls, evaluating

# A subclass that computes more, such as timm's BatchNormAct2d, is no norm that a convolution could absorb.
FORWARDS = (_BatchNorm.forward, nn.SyncBatchNorm.forward, SplitBatchNorm2d.forward)


def is_plain_norm(module: nn.Module | None) -> bool:
    """Whether a module computes a batch norm and nothing else."""
    return isinstance(module, _BatchNorm) and type(module).forward in FORWARDS


@dataclass
class Observation:
    """What a forward pass in evaluation mode showed.

    Attributes:
        norms: For each convolution that ran, the batch norm that alone reads its output and reads nothing else, or
            None.
        call: How the model was run, None if it could not be.
        failure: Why it could not.
    """

    norms: dict[nn.Module, nn.Module | None] = field(default_factory=dict)
    call: Call | None = None
    failure: str = ''


class _Readers(TorchDispatchMode):
    """Records who reads the outputs of convolutions: a module without children, or an operation outside of one."""

    def __init__(self):
        super().__init__()
        self.running: list[nn.Module] = []
        self.outputs: dict[int, tuple[nn.Module, Tensor, set]] = {}  # by id, which is unique while the tensor is held
        self.sources: dict[nn.Module, set[nn.Module | None]] = {}  # of each norm: whose outputs it reads

    def __torch_dispatch__(
        self, func: Callable, types: object, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> object:
        self._read((args, kwargs), self.running[-1] if self.running else func)
        return func(*args, **(kwargs or {}))

    def _read(self, tree: object, reader: object) -> None:
        for leaf in tree_leaves(tree):
            if id(leaf) in self.outputs:
                self.outputs[id(leaf)][2].add(reader)

    def enter(self, module: nn.Module, args: tuple) -> None:
        """Forward pre-hook."""
        if isinstance(module, _BatchNorm):
            source = self.outputs.get(id(args[0])) if args else None
            self.sources.setdefault(module, set()).add(source and source[0])
        if not isinstance(module, nn.Identity):
            self._read(args, module)
        self.running.append(module)

    def leave(self, module: nn.Module, _: tuple, output: object) -> None:
        """Forward hook."""
        self.running.pop()
        if isinstance(module, nn.Conv2d):
            self.outputs[id(output)] = module, output, set()

    def finish(self, output: object) -> dict[nn.Module, nn.Module | None]:
        """Return the norm of each convolution that ran, given what the model returned."""
        self._read(output, 'the caller')
        readers: dict[nn.Module, set] = {}
        for conv, _, found in self.outputs.values():
            readers.setdefault(conv, set()).update(found or {'nobody'})
        paired = {}
        for conv, (first, *others) in readers.items():
            is_pair = not others and is_plain_norm(first) and self.sources.get(first) == {conv}
            paired[conv] = first if is_pair else None
        return paired


def observe(model: nn.Module, example: Tensor | tuple | None = None) -> Observation:
    """Run a model once, in evaluation mode and without gradients, and watch its convolutions and norms.

    Args:
        model: Any module; left as it was.
        example: Its input, a tuple for several; None tries random ones, see :func:`~.examples.calls`.
    """
    failure = ''
    for call in calls(model, example):
        try:
            return Observation(_watch(model, call), call)
        except Exception as error:  # of somebody's model on an input that may not be one of its
            failure = failure or f'the model does not run on {call} ({type(error).__name__}: {one_line(error)[:120]})'
    return Observation(failure=failure)


def _watch(model: nn.Module, call: Call) -> dict[nn.Module, nn.Module | None]:
    readers = _Readers()
    with ExitStack() as stack:
        stack.enter_context(evaluating(model))
        for module in model.modules():
            if not list(module.children()) and not isinstance(module, torch.jit.ScriptModule):
                # Innermost: what other hooks do to an input or output is an operation like any other.
                stack.callback(module.register_forward_pre_hook(readers.enter).remove)
                stack.callback(module.register_forward_hook(readers.leave, prepend=True).remove)
        with readers:
            output = call(model)
    return readers.finish(output)


def norm_by_definition(parent: nn.Module, attribute: str) -> nn.Module | None:
    """Return the norm that the class of ``parent`` applies to the output of its child ``attribute``, None if none.

    Raises:
        LookupError: If only a forward pass can tell.
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
