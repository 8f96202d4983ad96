"""Comparison of the training form and the deployed form of a model, layer by layer and as a whole."""

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from itertools import product
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from reprefine.engine.errors import UserError, error_summary

from .examples import Example, outputs_of, tensors_in
from .protocol import relative_difference

# Largest difference, relative to the largest output, accepted as rounding. In float64 it is the rounding of float32
# weights.
TOLERANCES = {torch.float64: 1e-5, torch.float32: 1e-4}
MODEL = 'the model'


class Comparison(NamedTuple):
    """Differences between the outputs of two forms of a model.

    Attributes:
        differences: Largest relative difference of each layer by name, and of the model's outputs by example.
        dtype: Data type of the computation.
        unchecked: Layers that no example reaches and whose input shape is unknown.
    """

    differences: dict[str, float]
    dtype: torch.dtype
    unchecked: list[str]

    @property
    def worst(self) -> tuple[str, float]:
        """Name and value of the largest difference."""
        return max(self.differences.items(), key=lambda item: item[1])

    def first_above(self, tolerance: float) -> tuple[str, float] | None:
        """Return name and value of the largest difference above a tolerance, of a layer if there is one, or None.

        Args:
            tolerance: Largest relative difference that is accepted.
        """
        above = [(name, value) for name, value in self.differences.items() if not value <= tolerance]
        return max(above, key=lambda item: (not item[0].startswith(MODEL), item[1]), default=None)

    @property
    def tolerance(self) -> float:
        """Largest relative difference accepted as rounding in the data type of the comparison."""
        return TOLERANCES[self.dtype]

    def __str__(self) -> str:
        """Return a description of what was compared."""
        inputs = [name.removeprefix(MODEL) for name in self.differences if name.startswith(MODEL)]
        layers = len(self.differences) - len(inputs)
        parts = [f'{layers} layers'] * bool(layers) + [MODEL + ','.join(inputs)] * bool(inputs)
        unchecked = f'; not reached: {", ".join(self.unchecked)}' if self.unchecked else ''
        return f'{" and ".join(parts)}, in {str(self.dtype).removeprefix("torch.")}{unchecked}'


def compare(
    trained: nn.Module,
    deployed: nn.Module,
    examples: Sequence[Example] = (),
    layers: Iterable[str] = (),
    written: nn.Module | None = None,
) -> Comparison:
    """Compare the outputs of two forms of a model, in float64 if the model runs in it, otherwise in float32.

    The training form is computed by ``explicit_output`` where a layer has it, without merged weights. A model that runs
    in the modes ``'loss'`` and ``'predict'`` only is compared by its features. So is a two-stage detector, in addition
    to its layers, because the boxes that its first stage proposes may depend on rounding.

    Args:
        trained: Training form; it is not modified.
        deployed: Deployed form; it is not modified.
        examples: Inputs on which both run.
        layers: Names of the reparameterised layers. Each is compared on the inputs that it gets in the training form,
            or on random features if no example reaches it.
        written: Model to compare as a whole in place of ``deployed``, such as the baseline.

    Raises:
        UserError: If the training form runs on an example in neither data type, its output is not finite, or nothing
            can be compared.
    """
    failures: list[Exception] = []
    for features, dtype in product((False, True), TOLERANCES):
        before, after, whole = (evaluated_copy(model, dtype) for model in (trained, deployed, written or deployed))
        try:
            return _compare(before, after, whole, examples, layers, dtype, features)
        except UserError:
            raise
        except Exception as error:  # any error of a model that does not run in this dtype or mode
            failures.append(error)
    on = ' and '.join(example.source for example in examples)
    raise UserError(
        f'the model does not run on {on or "random features"} ({error_summary(failures[0])}): give --shape H W'
    )


def evaluated_copy(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Return a copy of a model on the CPU, in evaluation mode.

    Args:
        model: The model, which is not modified.
        dtype: Data type of the copy.
    """
    model = copy.deepcopy(model).cpu().to(dtype)
    model.eval()  # which returns None for backbones of OpenMMLab libraries
    return model


def _compare(
    trained: nn.Module,
    deployed: nn.Module,
    written: nn.Module,
    examples: Sequence[Example],
    layers: Iterable[str],
    dtype: torch.dtype,
    features: bool,
) -> Comparison:
    _make_explicit(trained)
    others = dict(deployed.named_modules())
    pairs = {name: (module, others[name]) for name, module in trained.named_modules() if name and name in others}
    pairs = {name: pairs[name] for name in layers if name in pairs}
    differences: dict[str, float] = {}
    hooks = [
        module.register_forward_hook(_comparison_hook(differences, name, other), with_kwargs=True)
        for name, (module, other) in pairs.items()
    ]
    name = f'{MODEL} (features)' if features or _is_two_stage(trained) else MODEL
    whole = {f'{name} for {example.source}': _of_outputs(trained, written, example, features) for example in examples}
    unchecked = [layer for layer in pairs if layer not in differences and not _run_on_random(pairs[layer][0], dtype)]
    for hook in hooks:
        hook.remove()
    if not differences and not whole:
        raise UserError('neither the model nor a deployed layer runs on random input, so that nothing can be compared')
    return Comparison(differences | whole, dtype, unchecked)


def _is_two_stage(model: nn.Module) -> bool:
    """Return whether a model selects the boxes that its later layers process."""
    return hasattr(model, 'roi_head')


def _of_outputs(trained: nn.Module, written: nn.Module, example: Example, features: bool) -> float:
    if not features and _is_two_stage(trained):
        outputs_of(trained, example)  # the hooks compare the layers of its heads
        features = True
    before = outputs_of(trained, example, features)
    if not before or not all(output.isfinite().all() for output in before):
        raise UserError(f'the output of the training form for {example.source} is not finite')
    return largest_difference(outputs_of(written, example, features), before)


@torch.no_grad()
def _run_on_random(layer: nn.Module, dtype: torch.dtype) -> bool:
    """Run a layer on random features, on which its hook compares it; return False if its input shape is unknown."""
    features = _random_features(layer, dtype)
    if features is None:
        return False
    layer(features)
    return True


def _make_explicit(model: nn.Module) -> None:
    for module in model.modules():
        if hasattr(module, 'explicit_output'):
            module.forward = module.explicit_output


def _comparison_hook(differences: dict[str, float], name: str, other: nn.Module) -> Callable:
    def hook(module: nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
        outputs, reference = (list(tensors_in(result)) for result in (other(*args, **kwargs), output))
        differences[name] = max(differences.get(name, 0.0), largest_difference(outputs, reference))

    return hook


def largest_difference(outputs: Sequence[Tensor], reference: Sequence[Tensor]) -> float:
    """Return the largest relative difference between tensors and those of a reference; infinite if shapes differ.

    Args:
        outputs: Tensors.
        reference: Tensors to compare with.
    """
    if [output.shape for output in outputs] != [output.shape for output in reference]:
        return math.inf
    pairs = zip(outputs, reference, strict=True)
    return max((relative_difference(output, expected) for output, expected in pairs if expected.numel()), default=0.0)


def _random_features(layer: nn.Module, dtype: torch.dtype) -> Tensor | None:
    """Return a small input with inner and border positions of the kernel, None if the input shape is unknown."""
    generator = torch.Generator().manual_seed(0)
    if hasattr(layer, 'in_features'):
        return torch.randn(2, 3, layer.in_features, generator=generator).to(dtype)
    if not hasattr(layer, 'in_channels') or not hasattr(layer, 'kernel_size'):
        return None
    reach = max(d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True))
    return torch.randn(2, layer.in_channels, reach + 3, reach + 4, generator=generator).to(dtype)
