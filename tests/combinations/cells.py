"""Configs of combinations of methods, and their brief trainings in two phases."""

import argparse
import copy
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.data import DataLoader

from reprefine.engine.build import build_model, load_trained
from reprefine.engine.cli.launch import OptionsAction, load_config, set_loader_defaults
from tests.configs.brief import ROOT, brief_options, data_roots
from tests.helpers.run import run_test, run_train

ToyFolder = Callable[[list[str]], Path]
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
    """A config that applies a method to one of the tree, and the arguments of its brief runs.

    Attributes:
        config: Config of the combination.
        arguments: Arguments of its training and testing, after config and checkpoint.
        work_dir: Folder of its run.
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
        """Return the model in evaluation mode with the weights after an iteration; the checkpoint must be complete."""
        return load_trained(config_of(self), str(self.checkpoint(iteration)))


def tree_config(name: str) -> Path:
    """Return the path of a config by its name below ``configs``, without suffix."""
    return ROOT / 'configs' / f'{name}.py'


def denoised(
    base: str | Path, denoise: str, folder: Path, toy_folder: ToyFolder, *options: str, more: str = ''
) -> Cell:
    """Write a config that applies DenoiseRep to another one; the config is checked when it is read.

    Args:
        base: Name of a config of the tree, or path of another one.
        denoise: Options of DenoiseRep, as keyword arguments, in addition to those of its step.
        folder: Folder of the config and its run.
        toy_folder: Function that returns the toy data of data roots.
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
        work_dir: Folder of its run.
        toy_folder: Function that returns the toy data of data roots.
        options: Further ``--cfg-options``.
    """
    cfg = load_config(str(config))
    roots = data_roots(cfg)
    where = ('--data-root', str(toy_folder(roots))) if roots else ()
    lengths = dict(max_iters=ITERATIONS, max_epochs=ITERATIONS // 2)
    length = [f'train_cfg.{key}={value}' for key, value in lengths.items() if cfg.train_cfg.get(key)]
    phases = {  # also if a brief run of the config would set others
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


def batches(cell: Cell) -> DataLoader:
    """Return the loader of a cell's training data."""
    cfg = config_of(cell)
    set_loader_defaults(cfg, no_pin_memory=True)
    return Runner.build_dataloader(cfg.train_dataloader, seed=0)


def first_batch(cell: Cell) -> Any:
    """Return the first batch of a cell's training data, as the data loader returns it."""
    return next(iter(batches(cell)))


def losses_of(model: nn.Module, batch: Any) -> dict[str, Tensor]:
    """Return the losses of a batch of a data loader."""
    # The preprocessor may write into it.
    return model(**model.data_preprocessor(copy.deepcopy(batch), True), mode='loss')


def saved(model: nn.Module, file: Path) -> Path:
    """Write a checkpoint of a model, and return its file."""
    torch.save(dict(state_dict=model.state_dict(), meta={}), file)
    return file


def copied(module: nn.Module) -> dict[str, Tensor]:
    """Return a copy of a module's state dict."""
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def loaded(cell: Cell, weights: Mapping[str, Tensor]) -> nn.Module:
    """Return the model of a config with weights that it loads strictly, in evaluation mode."""
    model = build_model(config_of(cell)).eval()
    model.load_state_dict(dict(weights), strict=True)
    return model


def metrics_of(cell: Cell, checkpoint: Path) -> dict[str, float]:
    """Return the metrics of a checkpoint, which must be complete."""
    target = cell.work_dir / f'{checkpoint.stem}.json'
    target.parent.mkdir(parents=True, exist_ok=True)
    argv = (str(cell.config), str(checkpoint), '--work-dir', str(cell.work_dir), '--out', str(target))
    assert run_test(*argv, *cell.arguments) == 0
    return json.loads(target.read_text())
