"""Checks of combinations of methods: parameters of each phase, resuming, deployment, the baseline config."""

import copy
import math
import shutil
from collections.abc import Callable, Mapping, Set
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from reprefine.deploy import relative_difference, switch_to_deploy
from reprefine.engine.build import build_model
from reprefine.methods.denoiserep.conversion.converted import denoise_layers, denoise_state
from reprefine.methods.denoiserep.layers.base import DenoiseLayer
from reprefine.methods.denoiserep.layers.noise_predictor import NoisePredictor
from reprefine.methods.denoiserep.training.phases import set_phase
from tests.combinations.cells import ITERATIONS, Cell, config_of, first_batch, loaded, losses_of, metrics_of, train
from tests.helpers.killed import assert_equal_runs

Run = Callable[[nn.Module], list[Tensor]]


def assert_resumes(cell: Cell, after: int = 1) -> None:
    """Resume from a checkpoint within a phase: everything that the run writes must equal the uninterrupted run."""
    parts = cell._replace(work_dir=cell.work_dir.with_name('resumed'))
    parts.work_dir.mkdir()
    shutil.copy(cell.checkpoint(after), parts.work_dir)
    (parts.work_dir / 'last_checkpoint').write_text(str(parts.checkpoint(after)))
    train(parts, '--resume')
    assert_equal_runs(cell.work_dir, parts.work_dir, f'resumed after {after}')


def moved(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> set[str]:
    """Return the names of the tensors that differ between two state dicts."""
    assert before.keys() == after.keys()
    return {name for name in before if not torch.equal(before[name], after[name])}


def predictors(model: nn.Module, with_momentum: bool = False) -> set[str]:
    """Return the names of the parameters of the noise predictors."""
    return {
        f'{name}.denoiser.{key}'
        for name, layer in denoise_layers(model, with_momentum).items()
        for key, _ in layer.denoiser.named_parameters()
    }


def assert_phases(cell: Cell, model: nn.Module, both: Set[str] = frozenset(), fixed: Set[str] = frozenset()) -> None:
    """Require that the first two iterations have changed the predictors alone, and the others everything else.

    So neither parameters of the base model nor statistics of its norms change while the predictors are trained.

    Args:
        cell: The combination, trained.
        model: Its model.
        both: Names of the tensors that change in every iteration.
        fixed: Names of the tensors that the base model never changes.
    """
    first, middle, last = (cell.weights(iteration) for iteration in (1, 2, ITERATIONS))
    assert moved(first, middle) == predictors(model) | both
    assert moved(middle, last) == first.keys() - model.added_keys - fixed | both


def assert_gradients(cell: Cell, baseline: Cell) -> None:
    """Require that each phase trains the predictors, or exactly the parameters that the baseline trains.

    Args:
        cell: The combination.
        baseline: The config without DenoiseRep.
    """
    batch = first_batch(baseline)
    expected = reached_by_gradients(build_model(config_of(baseline)).train(), batch)
    model = build_model(config_of(cell)).train()
    for phase, names in dict(denoise=predictors(model), backbone=expected).items():
        set_phase(model, phase)
        assert reached_by_gradients(model, batch) == names, phase
        assert names <= {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def assert_deploys(model: nn.Module, run: Run, *forms: Callable[[nn.Module], bool]) -> nn.Module:
    """Reparameterise a model; require base layers and equal outputs; return the deployed model.

    Args:
        model: The combination in evaluation mode, with trained weights.
        run: Function that evaluates a model.
        forms: Predicates that no module of the deployed model may satisfy.
    """
    expected = run(model)
    denoise_state(model).denoise_eval = False
    without = run(model)
    denoise_state(model).denoise_eval = True
    # Otherwise dropping the predictors would pass.
    assert max(map(relative_difference, without, expected)) > 1e-3
    deployed = switch_to_deploy(copy.deepcopy(model).eval())
    remaining = [
        name for name, module in deployed.named_modules() if any(form(module) for form in (is_denoised, *forms))
    ]
    assert not remaining
    assert_close(run(deployed), expected)
    return deployed


def is_denoised(module: nn.Module) -> bool:
    """Return whether a module belongs to DenoiseRep."""
    return isinstance(module, (DenoiseLayer, NoisePredictor))


def reached_by_gradients(model: nn.Module, batch: Any) -> set[str]:
    """Return the names of the parameters that the losses of a batch reach with a gradient."""
    model.zero_grad(set_to_none=True)
    model.parse_losses(losses_of(model, batch))[0].backward()
    return {name for name, parameter in model.named_parameters() if parameter.grad is not None}


def assert_depends_on_every_predictor(model: nn.Module, run: Run) -> None:
    """Require that evaluation runs every denoising layer, and that its output depends on its predictor.

    Args:
        model: Converted model in evaluation mode.
        run: Function that evaluates a model.
    """
    layers, calls = denoise_layers(model, with_momentum=True), {}

    def record(name: str) -> Callable[..., None]:
        # Copies, because an activation may work in place.
        return lambda _, args, output: calls.update({name: (args[0].clone(), output.clone())})

    handles = [layer.register_forward_hook(record(name)) for name, layer in layers.items()]
    run(model)
    for handle in handles:
        handle.remove()
    assert calls.keys() == layers.keys()
    for name, layer in layers.items():
        inputs, output = calls[name]
        assert_depends_on_predictor(name, layer, inputs, output)


@torch.no_grad()
def assert_depends_on_predictor(name: str, layer: nn.Module, inputs: Tensor, output: Tensor) -> None:
    """Require that a layer returns ``output`` for ``inputs``, and another output with another predictor."""
    assert relative_difference(layer(inputs), output) < 1e-5, name
    for parameter in (layer.denoiser.weight, layer.denoiser.bias):
        if parameter is None:
            continue
        original = parameter.clone()
        parameter.add_(torch.randn_like(parameter), alpha=10 + output.abs().max().item())
        assert relative_difference(layer(inputs), output) > 1e-3, name
        parameter.copy_(original)


def on(images: Tensor) -> Run:
    """Return a function that returns all tensors of a model's output, in the mode ``tensor``, for images."""

    @torch.no_grad()
    def run(model: nn.Module) -> list[Tensor]:
        return tensors(model.eval()(images, mode='tensor'))

    return run


def tensors(output: Any) -> list[Tensor]:
    """Return all tensors of an output."""
    return [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]


def assert_close(found: list[Tensor], expected: list[Tensor], bound: float = 1e-4) -> None:
    """Compare outputs, in float32 to 1e-4 of their largest value."""
    assert len(found) == len(expected) > 0
    for output, reference in zip(found, expected, strict=True):
        assert relative_difference(output, reference) <= bound


def assert_equal_tests(
    refined: Cell, model: nn.Module, baseline: Cell, weights: Mapping[str, Tensor], run: Run
) -> None:
    """Require equal outputs and metrics of the baseline config with deployed weights and of the training form.

    Args:
        refined: The combination, trained.
        model: Its model in evaluation mode.
        baseline: The baseline config.
        weights: Deployed weights, which the baseline loads strictly.
        run: Function that evaluates a model.
    """
    assert_close(run(loaded(baseline, weights)), run(model))
    deployed = refined.work_dir / 'deployed.pth'
    torch.save(dict(state_dict=dict(weights), meta={}), deployed)
    found = [metrics_of(refined, refined.checkpoint(ITERATIONS)), metrics_of(baseline, deployed)]
    assert found[0].keys() == found[1].keys()
    for name, value in found[0].items():
        assert math.isfinite(value), name
        assert math.isclose(value, found[1][name], rel_tol=1e-3, abs_tol=1e-3), name
