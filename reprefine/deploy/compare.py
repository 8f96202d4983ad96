"""Comparing a model before and after it is folded, layer by layer and as a whole."""

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from itertools import product
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from reprefine.deploy.examples import Example, outputs_of, tensors_in
from reprefine.deploy.protocol import relative_difference
from reprefine.engine.errors import UserError, error_summary

# Largest difference, relative to the largest output, that counts as rounding. In float64 it is that of the weights.
TOLERANCES = {torch.float64: 1e-5, torch.float32: 1e-4}
WHOLE = 'the model'


class Comparison(NamedTuple):
    """How far two forms of a model are apart.

    Attributes:
        differences: Largest relative difference of each layer by name, and of the model's outputs by what it ran on.
        dtype: Type that was computed in.
        unchecked: Layers that no example reaches and for which no input can be made up.
    """

    differences: dict[str, float]
    dtype: torch.dtype
    unchecked: list[str]

    @property
    def worst(self) -> tuple[str, float]:
        """What differs most, and by how much."""
        return max(self.differences.items(), key=lambda item: item[1])

    def first_above(self, tolerance: float) -> tuple[str, float] | None:
        """Return what differs by more, the worst layer before the model that it spoils, or None."""
        above = [(name, value) for name, value in self.differences.items() if not value <= tolerance]
        return max(above, key=lambda item: (not item[0].startswith(WHOLE), item[1]), default=None)

    @property
    def tolerance(self) -> float:
        """What counts as rounding in the type of the comparison."""
        return TOLERANCES[self.dtype]

    def __str__(self) -> str:
        """Return what was compared."""
        inputs = [name.removeprefix(WHOLE) for name in self.differences if name.startswith(WHOLE)]
        layers = len(self.differences) - len(inputs)
        parts = [f'{layers} layers'] * bool(layers) + [WHOLE + ','.join(inputs)] * bool(inputs)
        unchecked = f'; not reached: {", ".join(self.unchecked)}' if self.unchecked else ''
        return f'{" and ".join(parts)}, in {str(self.dtype).removeprefix("torch.")}{unchecked}'


def compare(
    trained: nn.Module,
    folded: nn.Module,
    examples: Sequence[Example] = (),
    layers: Iterable[str] = (),
    written: nn.Module | None = None,
) -> Comparison:
    """Compare a model with its training form, in float64 if it computes in that, else in float32.

    The training form is computed explicitly, without weights that it merges for its own evaluation. A model that runs
    for its losses and predictions only is compared by its features, and so is a two-stage detector, beside its layers:
    which boxes its first stage proposes may turn on rounding.

    Args:
        trained: The training form.
        folded: The folded form. All models stay as they are.
        examples: Inputs on which both run.
        layers: Names of the folded layers, each compared on the inputs that it gets in the training form, and where
            none reaches it, on random features.
        written: What to compare as a whole in place of ``folded``, such as the plain model.

    Raises:
        UserError: If the training form runs on an example in neither type, its output is not finite, or nothing can
            be compared.
    """
    failures: list[Exception] = []
    for features, dtype in product((False, True), TOLERANCES):
        forms = [evaluated_copy(model, dtype) for model in (trained, folded, written or folded)]
        try:
            return _compare(*forms, examples, layers, dtype, features)
        except UserError:
            raise
        except Exception as error:  # of somebody's model, in a type or a mode that it may not know
            failures.append(error)
    on = ' and '.join(example.source for example in examples)
    raise UserError(
        f'the model does not run on {on or "random features"} ({error_summary(failures[0])}): give --shape H W'
    )


def evaluated_copy(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Return a copy on the CPU, in evaluation mode; backbones of host libraries do not return themselves from that."""
    model = copy.deepcopy(model).cpu().to(dtype)
    model.eval()
    return model


def _compare(
    trained: nn.Module,
    folded: nn.Module,
    written: nn.Module,
    examples: Sequence[Example],
    layers: Iterable[str],
    dtype: torch.dtype,
    features: bool,
) -> Comparison:
    _make_explicit(trained)
    twins = dict(folded.named_modules())
    pairs = {name: (module, twins[name]) for name, module in trained.named_modules() if name and name in twins}
    pairs = {name: pairs[name] for name in layers if name in pairs}
    seen: dict[str, float] = {}
    hooks = [
        module.register_forward_hook(_comparing(seen, name, twin), with_kwargs=True)
        for name, (module, twin) in pairs.items()
    ]
    name = f'{WHOLE} (features)' if features or _chooses(trained) else WHOLE
    whole = {f'{name} for {example.source}': _of_outputs(trained, written, example, features) for example in examples}
    unchecked = [layer for layer in pairs if layer not in seen and not _run_alone(pairs[layer][0], dtype)]
    for hook in hooks:
        hook.remove()
    if not seen and not whole:
        raise UserError('neither the model nor a folded layer runs on random input, so that nothing can be compared')
    return Comparison(seen | whole, dtype, unchecked)


def _chooses(model: nn.Module) -> bool:
    """Whether a model decides on what its later layers see."""
    return hasattr(model, 'roi_head')


def _of_outputs(trained: nn.Module, written: nn.Module, example: Example, features: bool) -> float:
    if not features and _chooses(trained):
        outputs_of(trained, example)  # the hooks compare the layers of its heads
        features = True
    before = outputs_of(trained, example, features)
    if not before or not all(output.isfinite().all() for output in before):
        raise UserError(f'the model gives no finite output for {example.source}, before it is folded')
    return largest(outputs_of(written, example, features), before)


@torch.no_grad()
def _run_alone(layer: nn.Module, dtype: torch.dtype) -> bool:
    """Run a layer on random features, so that its hook compares it, and tell whether there are such."""
    features = _random_features(layer, dtype)
    if features is None:
        return False
    layer(features)
    return True


def _make_explicit(model: nn.Module) -> None:
    for module in model.modules():
        if hasattr(module, 'explicit_output'):
            module.forward = module.explicit_output


def _comparing(seen: dict[str, float], name: str, twin: nn.Module) -> Callable:
    def hook(module: nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
        ours, theirs = (list(tensors_in(result)) for result in (twin(*args, **kwargs), output))
        seen[name] = max(seen.get(name, 0.0), largest(ours, theirs))

    return hook


def largest(outputs: Sequence[Tensor], reference: Sequence[Tensor]) -> float:
    """Return the largest relative difference of tensors from those of the reference; infinite for other shapes."""
    if [output.shape for output in outputs] != [output.shape for output in reference]:
        return math.inf
    pairs = zip(outputs, reference, strict=True)
    return max((relative_difference(ours, theirs) for ours, theirs in pairs if theirs.numel()), default=0.0)


def _random_features(layer: nn.Module, dtype: torch.dtype) -> Tensor | None:
    """Return the smallest input of a layer that shows its inside and its borders, None for a layer of another kind."""
    generator = torch.Generator().manual_seed(0)
    if hasattr(layer, 'in_features'):
        return torch.randn(2, 3, layer.in_features, generator=generator).to(dtype)
    if not hasattr(layer, 'in_channels') or not hasattr(layer, 'kernel_size'):
        return None
    reach = max(d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True))
    return torch.randn(2, layer.in_channels, reach + 3, reach + 4, generator=generator).to(dtype)
