"""Trains and tests a config of the tree briefly, on the toy data of its benchmark."""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import cache, lru_cache
from pathlib import Path

from mmengine.config import Config, ConfigDict

from reprefine.engine.build import build_model
from reprefine.engine.cli.launch import load_config
from reprefine.methods.denoiserep import ConvertedLayer, report
from tests.configs.brief import ROOT, brief_options, data_roots
from tests.configs.small_networks import small_networks
from tests.helpers.run import run_test, run_train

CONFIGS = sorted(path for path in (ROOT / 'configs').rglob('*.py') if '_base_' not in path.parts)


def configs_below(*folders: str) -> list[Path]:
    """Return the configs in the given folders of ``configs``."""
    return [path for path in CONFIGS if any(path.is_relative_to(ROOT / 'configs' / folder) for folder in folders)]


def train_and_test(path: Path, work_dir: Path, toy_folder: Callable[[list[str]], Path]) -> None:
    """Train for two iterations, test on two batches and require that every metric is a finite number.

    Of a DenoiseRep run, the folded checkpoint must test as well, with the config of the unrefined twin.
    """
    # Layers of blocks that the config names must be there.
    with nullcontext() if re.search(r"'\S*layer\d\.\d", str(loaded(path).model)) else small_networks():
        _train_and_test(path, work_dir, toy_folder)


def _train_and_test(path: Path, work_dir: Path, toy_folder: Callable[[list[str]], Path]) -> None:
    cfg = loaded(path)
    if not cfg.get('train_dataloader'):  # nothing is trained
        assert_tests(path, None, work_dir, toy_folder)
        return
    assert run_train(str(path), '--work-dir', str(work_dir), *brief_arguments(path, toy_folder)) == 0
    if not cfg.get('test_dataloader'):
        return
    (checkpoint,) = [file for file in work_dir.glob('*.pth') if file.stem in ('epoch_1', 'iter_2')]
    assert_tests(path, checkpoint, work_dir, toy_folder)
    if cfg.model.type == 'reprefine.DenoiseRep':
        assert phases_of(work_dir) == {phase for hook in cfg.custom_hooks for phase in phases_named(hook)}
        folded = checkpoint.with_name(f'{checkpoint.stem}_deploy.pth')
        assert_tests(twin_of(path), folded, work_dir, toy_folder)


@lru_cache(4)
def loaded(path: Path) -> Config:
    """Return a config, which is not to be changed."""
    return load_config(str(path))


@cache
def brief_arguments(path: Path, toy_folder: Callable[[list[str]], Path]) -> tuple[str, ...]:
    """Return the arguments of a brief run of a config, for training as for testing."""
    cfg = loaded(path)
    roots = data_roots(cfg)
    where = ['--data-root', str(toy_folder(roots))] if roots else []
    return (*where, '--cfg-options', *brief_options(cfg))


def assert_tests(path: Path, checkpoint: Path | None, work_dir: Path, toy_folder: Callable[[list[str]], Path]) -> None:
    """Test a checkpoint, which must fill the whole model, or a config without one, and require finite metrics."""
    metrics = work_dir / 'metrics.json'
    brief = brief_arguments(path, toy_folder)
    trained = [str(checkpoint)] if checkpoint else []
    assert run_test(str(path), *trained, '--work-dir', str(work_dir), '--out', str(metrics), *brief) == 0
    values = json.loads(metrics.read_text())
    assert values
    assert all(math.isfinite(value) for value in values.values()), values


def twin_of(path: Path) -> Path:
    """Return a baseline of the same task whose model is the one that a DenoiseRep config refines."""
    refined = model_of(path)
    base = {key: value for key, value in refined.items() if key not in ('base_type', 'denoise')}
    base['type'] = refined.base_type
    return next(twin for twin in configs_below(f'baselines/{path.parent.name}') if model_of(twin) == base)


@cache
def model_of(path: Path) -> ConfigDict:
    """Return the model of a config."""
    return Config.fromfile(path).model


def denoised_layers(task: str, name: str) -> list[ConvertedLayer]:
    """Build the model of a DenoiseRep config and return one row for each of its denoised layers."""
    return report(build_model(load_config(str(ROOT / f'configs/denoiserep/{task}/{name}.py'))))


def phases_named(hook: Mapping) -> Sequence[str]:
    """Return the phases that a hook of a config takes in turn, none if it is another hook."""
    if hook['type'] != 'reprefine.DenoisePhaseHook':
        return ()
    return hook.get('phases', ('denoise', 'backbone'))


def phases_of(work_dir: Path) -> set[str]:
    """Return the phases that the logs of a run name."""
    logs = ''.join(log.read_text() for log in work_dir.glob('*/*.log'))
    return set(re.findall(r'enters phase "(\w+)"', logs))
