"""What is checked of a run of DenoiseRep beside the metrics, and its configs beside their baselines."""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from mmengine.config import Config, ConfigDict

from reprefine.engine.build import build_model
from reprefine.engine.cli.launch import load_config
from reprefine.methods.denoiserep import ConvertedLayer, report
from tests.configs.brief import ROOT
from tests.configs.walk import Run, assert_tests, configs_below


def check_run(run: Run) -> None:
    """Require that every phase was trained, and that the baseline's config tests the reparameterised checkpoint."""
    if run.cfg.model.type != 'reprefine.DenoiseRep':
        return
    assert phases_of(run.work_dir) == {phase for hook in run.cfg.custom_hooks for phase in phases_named(hook)}
    deployed = run.checkpoint.with_name(f'{run.checkpoint.stem}_deploy.pth')
    assert_tests(baseline_of(run.path), deployed, run.work_dir, run.toy_folder)


def baseline_of(path: Path) -> Path:
    """Return a baseline of the same task whose model is the one that a DenoiseRep config refines."""
    refined = model_of(path)
    base = {key: value for key, value in refined.items() if key not in ('base_type', 'denoise')}
    base['type'] = refined.base_type
    return next(baseline for baseline in configs_below(f'baselines/{path.parent.name}') if model_of(baseline) == base)


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
