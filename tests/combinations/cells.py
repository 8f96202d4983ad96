"""What every cell of the table of combinations does: a method over a config of the tree, trained in two phases."""

import argparse
import copy
import json
import math
import shutil
from collections.abc import Callable, Mapping, Set
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.data import DataLoader

from reprefine.deploy import relative_difference, switch_to_deploy
from reprefine.engine.build import build_model, load_trained
from reprefine.engine.launch import OptionsAction, load_config, set_loader_defaults
from reprefine.methods.denoiserep.convert import denoise_layers, denoise_state, set_phase
from reprefine.methods.denoiserep.denoiser import Denoiser
from reprefine.methods.denoiserep.layer import _DenoiseLayer
from tests.configs.brief import ROOT, brief_options, data_roots
from tests.helpers.killed import assert_equal_runs
from tests.helpers.run import run_test, run_train

ToyFolder = Callable[[list[str]], Path]
Run = Callable[[nn.Module], list[Tensor]]
# Two iterations of each phase, a checkpoint after each.
ITERATIONS = 4
# A step that changes features by a tenth; those of the paper change them by a few thousandths.
STRONG = "timestep=400, step='ddim', to=20"
REFINED = """_base_ = '{base}'

model = dict(type='reprefine.DenoiseRep', base_type={{{{_base_.model.type}}}}, denoise=dict({strong}, {denoise}))
custom_hooks = [
    *_base_.get('custom_hooks', []), dict(type='reprefine.DenoisePhaseHook', phase_length=2, by='iter'),
]
"""
EVERY_ITERATION = (
    'default_hooks.checkpoint.by_epoch=False',
    'default_hooks.checkpoint.interval=1',
    'default_hooks.checkpoint.max_keep_ckpts=-1',
    'default_hooks.checkpoint.save_optimizer=True',
    'param_scheduler=None',
)


class Cell(NamedTuple):
    """A refined config over one of the tree, and the arguments of its brief runs.

    Attributes:
        config: Config of the combination.
        arguments: What its training and testing take, behind config and checkpoint.
        work_dir: Where its run lies.
    """

    config: Path
    arguments: tuple[str, ...]
    work_dir: Path

    def checkpoint(self, iteration: int) -> Path:
        """Return the checkpoint that was written after an iteration, counted from one."""
        return self.work_dir / f'iter_{iteration}.pth'

    def weights(self, iteration: int) -> dict[str, Tensor]:
        """Return the state dict after an iteration."""
        return torch.load(self.checkpoint(iteration), weights_only=True)['state_dict']

    def trained(self, iteration: int = ITERATIONS) -> nn.Module:
        """Return the model in evaluation mode with the weights after an iteration, all of which the file must hold."""
        return load_trained(config_of(self), str(self.checkpoint(iteration)))


def tree_config(name: str) -> Path:
    """Return the path of a config by its name below ``configs``, without suffix."""
    return ROOT / 'configs' / f'{name}.py'


def denoised(
    base: str | Path, denoise: str, folder: Path, toy_folder: ToyFolder, *options: str, more: str = ''
) -> Cell:
    """Write a config that lays DenoiseRep over another one; it is strictly checked as soon as it is read.

    Args:
        base: Name of a config of the tree, or path of another one.
        denoise: Options of DenoiseRep, as in a call, beside those of its step.
        folder: Where config and run come to lie.
        toy_folder: Gives the toy counterpart of data roots.
        options: Further ``--cfg-options``.
        more: Further lines of the config.
    """
    base = base if isinstance(base, Path) else tree_config(base)
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / 'refined.py'
    config.write_text(REFINED.format(base=base, strong=STRONG, denoise=denoise) + more)
    return brief(config, folder / 'run', toy_folder, *options)


def brief(config: Path, work_dir: Path, toy_folder: ToyFolder, *options: str) -> Cell:
    """Return a config together with the arguments of a run of four iterations.

    Args:
        config: Any config.
        work_dir: Where its run comes to lie.
        toy_folder: Gives the toy counterpart of data roots.
        options: Further ``--cfg-options``.
    """
    cfg = load_config(str(config))
    roots = data_roots(cfg)
    where = ('--data-root', str(toy_folder(roots))) if roots else ()
    lengths = dict(max_iters=ITERATIONS, max_epochs=ITERATIONS // 2)
    length = [f'train_cfg.{key}={value}' for key, value in lengths.items() if cfg.train_cfg.get(key)]
    phases = {  # whatever a brief run of a config of the tree does with them
        f'custom_hooks.{index}.phase_length': 2
        for index, hook in enumerate(cfg.get('custom_hooks') or [])
        if hook['type'] == 'reprefine.DenoisePhaseHook'
    }
    own = [f'{key}={value}' for key, value in phases.items()]
    arguments = (*where, '--cfg-options', *brief_options(cfg), *length, *EVERY_ITERATION, *own, *options)
    return Cell(config, arguments, work_dir)


def config_of(cell: Cell) -> Config:
    """Return the checked config of a brief run."""
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=OptionsAction)
    parser.add_argument('--data-root')
    args = parser.parse_args(cell.arguments)
    return load_config(str(cell.config), args.cfg_options, args.data_root)


def train(cell: Cell, *flags: str) -> Cell:
    """Train a cell, and return it."""
    argv = (str(cell.config), '--work-dir', str(cell.work_dir), '--no-validate', *cell.arguments, *flags)
    assert run_train(*argv) == 0
    return cell


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


def predictors(model: nn.Module, with_twins: bool = False) -> set[str]:
    """Return the names of the parameters of the noise predictors."""
    return {
        f'{name}.denoiser.{key}'
        for name, layer in denoise_layers(model, with_twins).items()
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
    return isinstance(module, (_DenoiseLayer, Denoiser))


def batches(cell: Cell) -> DataLoader:
    """Return the loader of a cell's training data."""
    cfg = config_of(cell)
    set_loader_defaults(cfg, no_pin_memory=True)
    return Runner.build_dataloader(cfg.train_dataloader, seed=0)


def first_batch(cell: Cell) -> Any:
    """Return the first batch of a cell's training data, as the data loader gives it."""
    return next(iter(batches(cell)))


def reached_by_gradients(model: nn.Module, batch: Any) -> set[str]:
    """Return the names of the parameters that the losses of a batch reach with a gradient."""
    model.zero_grad(set_to_none=True)
    model.parse_losses(losses_of(model, batch))[0].backward()
    return {name for name, parameter in model.named_parameters() if parameter.grad is not None}


def losses_of(model: nn.Module, batch: Any) -> dict[str, Tensor]:
    """Return the losses of a batch that a data loader gives."""
    # The preprocessor may write into it.
    return model(**model.data_preprocessor(copy.deepcopy(batch), True), mode='loss')


def saved(model: nn.Module, file: Path) -> Path:
    """Write a checkpoint of a model, and return its file."""
    torch.save(dict(state_dict=model.state_dict(), meta={}), file)
    return file


def copied(module: nn.Module) -> dict[str, Tensor]:
    """Return a copy of a module's state dict."""
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def assert_every_predictor_counts(model: nn.Module, run: Run) -> None:
    """Require that evaluation runs every denoising layer, and that its output depends on its predictor.

    Args:
        model: Converted model in evaluation mode.
        run: Evaluates a model.
    """
    layers, calls = denoise_layers(model, with_twins=True), {}

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


def filled(cell: Cell, weights: Mapping[str, Tensor]) -> nn.Module:
    """Return the model of a config with weights that fill it strictly, in evaluation mode."""
    model = build_model(config_of(cell)).eval()
    model.load_state_dict(dict(weights), strict=True)
    return model


def metrics_of(cell: Cell, checkpoint: Path) -> dict[str, float]:
    """Return the metrics of a checkpoint, which must fill the whole model."""
    target = cell.work_dir / f'{checkpoint.stem}.json'
    target.parent.mkdir(parents=True, exist_ok=True)
    argv = (str(cell.config), str(checkpoint), '--work-dir', str(cell.work_dir), '--out', str(target))
    assert run_test(*argv, *cell.arguments) == 0
    return json.loads(target.read_text())
