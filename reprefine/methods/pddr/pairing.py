"""Which batch norm follows which convolution: what a forward pass does decides, never the order of registration."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from mmcv.cnn import ConvModule
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from reprefine.engine.errors import one_line

SIZES = (64, 224, 32)  # of the square images that a model is tried on, in pixels
# A subclass that computes more, such as timm's BatchNormAct2d, is no norm that a convolution could absorb.
FORWARDS = (_BatchNorm.forward, nn.SyncBatchNorm.forward)


def is_plain_norm(module: nn.Module | None) -> bool:
    """Whether a module computes a batch norm and nothing else."""
    return isinstance(module, _BatchNorm) and type(module).forward in FORWARDS


@dataclass
class Observation:
    """What a forward pass in evaluation mode showed.

    Attributes:
        norms: For each convolution that ran, the batch norm that alone reads its output and reads nothing else, or
            None.
        run: Repeats the pass and returns all floating-point tensors of its output; None if no pass succeeded.
        failure: Why none did, empty if one did.
    """

    norms: dict[nn.Module, nn.Module | None] = field(default_factory=dict)
    run: Callable[[], list[Tensor]] | None = None
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
        example: Its input, a tuple for several. None tries one random image of each of :data:`SIZES`, on the model and
            then on its ``extract_feat``.
    """
    failure = ''
    for name, call in _calls(model, example):
        try:
            return Observation(_watch(model, call), partial(_outputs, model, call))
        except Exception as error:  # of somebody's model on an input that may not be one of its
            failure = failure or f'the model does not run on {name} ({type(error).__name__}: {one_line(error)[:120]})'
    return Observation(failure=failure)


def _calls(model: nn.Module, example: Tensor | tuple | None) -> Iterator[tuple[str, Callable[[], object]]]:
    if example is not None:
        args = example if isinstance(example, tuple) else (example,)
        yield 'the example', partial(model, *args)
        return
    channels = next((module.in_channels for module in model.modules() if isinstance(module, nn.Conv2d)), 3)
    like = next(model.parameters(), torch.empty(0))
    for size in SIZES:
        image = torch.randn(1, channels, size, size, generator=torch.Generator('cpu').manual_seed(0), device='cpu')
        image = image.to(like)
        for method in ('__call__', 'extract_feat'):
            if hasattr(model, method):
                yield f'an image of 1x{channels}x{size}x{size}', partial(getattr(model, method), image)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without calling the model's own ``train``, without gradients, with the RNG state kept."""
    modes = {module: module.training for module in model.modules()}
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        try:
            for module in modes:
                module.training = False
            yield
        finally:
            for module, training in modes.items():
                module.training = training


def _watch(model: nn.Module, call: Callable[[], object]) -> dict[nn.Module, nn.Module | None]:
    readers = _Readers()
    with ExitStack() as stack:
        stack.enter_context(_evaluating(model))
        for module in model.modules():
            if not list(module.children()) and not isinstance(module, torch.jit.ScriptModule):
                # Innermost: what other hooks do to an input or output is an operation like any other.
                stack.callback(module.register_forward_pre_hook(readers.enter).remove)
                stack.callback(module.register_forward_hook(readers.leave, prepend=True).remove)
        with readers:
            output = call()
    return readers.finish(output)


def _outputs(model: nn.Module, call: Callable[[], object]) -> list[Tensor]:
    with _evaluating(model):
        return [leaf for leaf in tree_leaves(call()) if torch.is_tensor(leaf) and leaf.is_floating_point()]


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
