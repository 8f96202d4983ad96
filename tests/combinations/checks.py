"""What every combination of methods must satisfy: what moves in each phase, resuming, folding, the plain config."""

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
from tests.combinations.cells import ITERATIONS, Cell, config_of, filled, first_batch, losses_of, metrics_of, train
from tests.helpers.killed import assert_equal_runs

Run = Callable[[nn.Module], list[Tensor]]


def assert_resumes(cell: Cell, after: int = 1) -> None:
    """Go on from a checkpoint in the middle of a phase: all that the run leaves must equal what the whole one left."""
    parts = cell._replace(work_dir=cell.work_dir.with_name('resumed'))
    parts.work_dir.mkdir()
    shutil.copy(cell.checkpoint(after), parts.work_dir)
    (parts.work_dir / 'last_checkpoint').write_text(str(parts.checkpoint(after)))
    train(parts, '--resume')
    assert_equal_runs(cell.work_dir, parts.work_dir, f'resumed after {after}')


def moved(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> set[str]:
    """Return the names of what differs between two state dicts."""
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
    """Require that the first two iterations have moved the predictors alone, and the others everything else.

    So neither parameters of the base model nor statistics of its norms have moved while the predictors learned.

    Args:
        cell: The combination, trained.
        model: Its model.
        both: Names of what moves in every iteration.
        fixed: Names of what the base model moves in none.
    """
    first, middle, last = (cell.weights(iteration) for iteration in (1, 2, ITERATIONS))
    assert moved(first, middle) == predictors(model) | both
    assert moved(middle, last) == first.keys() - model.added_keys - fixed | both


def assert_gradients(cell: Cell, plain: Cell) -> None:
    """Require that each phase trains what it says: the predictors, or exactly what the plain model trains.

    Args:
        cell: The combination.
        plain: The config without DenoiseRep.
    """
    batch = first_batch(plain)
    expected = reached_by_gradients(build_model(config_of(plain)).train(), batch)
    model = build_model(config_of(cell)).train()
    for phase, names in dict(denoise=predictors(model), backbone=expected).items():
        set_phase(model, phase)
        assert reached_by_gradients(model, batch) == names, phase
        assert names <= {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def assert_folds(model: nn.Module, run: Run, *forms: Callable[[nn.Module], bool]) -> nn.Module:
    """Fold a model, which must then be of plain layers and compute what it did before; return it.

    Args:
        model: The combination in evaluation mode, with trained weights.
        run: Evaluates it.
        forms: What no module of the folded model may be.
    """
    expected = run(model)
    denoise_state(model).denoise_eval = False
    without = run(model)
    denoise_state(model).denoise_eval = True
    # Otherwise a fold that drops the predictors would pass.
    assert max(map(relative_difference, without, expected)) > 1e-3
    folded = switch_to_deploy(copy.deepcopy(model).eval())
    left = [name for name, module in folded.named_modules() if any(form(module) for form in (is_denoised, *forms))]
    assert not left
    assert_close(run(folded), expected)
    return folded


def is_denoised(module: nn.Module) -> bool:
    """Whether a module belongs to DenoiseRep."""
    return isinstance(module, (DenoiseLayer, NoisePredictor))


def reached_by_gradients(model: nn.Module, batch: Any) -> set[str]:
    """Return the names of the parameters that the losses of a batch reach with a gradient."""
    model.zero_grad(set_to_none=True)
    model.parse_losses(losses_of(model, batch))[0].backward()
    return {name for name, parameter in model.named_parameters() if parameter.grad is not None}


def assert_every_predictor_counts(model: nn.Module, run: Run) -> None:
    """Require that evaluation runs every denoising layer, and that its output depends on its predictor.

    Args:
        model: Converted model in evaluation mode.
        run: Evaluates a model.
    """
    layers, calls = denoise_layers(model, with_momentum=True), {}

    def keep(name: str) -> Callable[..., None]:
        # Copies, because an activation may work in place.
        return lambda _, args, output: calls.update({name: (args[0].clone(), output.clone())})

    handles = [layer.register_forward_hook(keep(name)) for name, layer in layers.items()]
    run(model)
    for handle in handles:
        handle.remove()
    assert calls.keys() == layers.keys()
    for name, layer in layers.items():
        inputs, output = calls[name]
        assert_depends_on_predictor(name, layer, inputs, output)


@torch.no_grad()
def assert_depends_on_predictor(name: str, layer: nn.Module, inputs: Tensor, output: Tensor) -> None:
    """Require that a layer gives ``output`` for ``inputs``, and something else with another predictor."""
    assert relative_difference(layer(inputs), output) < 1e-5, name
    for parameter in (layer.denoiser.weight, layer.denoiser.bias):
        if parameter is None:
            continue
        kept = parameter.clone()
        parameter.add_(torch.randn_like(parameter), alpha=10 + output.abs().max().item())
        assert relative_difference(layer(inputs), output) > 1e-3, name
        parameter.copy_(kept)


def on(images: Tensor) -> Run:
    """Return what evaluates a model on images ``[N, C, H, W]``: all tensors of its output in mode ``tensor``."""

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
    for ours, theirs in zip(found, expected, strict=True):
        assert relative_difference(ours, theirs) <= bound


def assert_tests_alike(refined: Cell, model: nn.Module, plain: Cell, weights: Mapping[str, Tensor], run: Run) -> None:
    """Test the plain config with the folded weights: outputs and metrics are those of the refined one before folding.

    Args:
        refined: The combination, trained.
        model: Its model in evaluation mode.
        plain: The plain config.
        weights: Folded weights, which fill the plain model strictly.
        run: Evaluates it.
    """
    assert_close(run(filled(plain, weights)), run(model))
    folded = refined.work_dir / 'folded.pth'
    torch.save(dict(state_dict=dict(weights), meta={}), folded)
    found = [metrics_of(refined, refined.checkpoint(ITERATIONS)), metrics_of(plain, folded)]
    assert found[0].keys() == found[1].keys()
    for name, value in found[0].items():
        assert math.isfinite(value), name
        assert math.isclose(value, found[1][name], rel_tol=1e-3, abs_tol=1e-3), name
