"""Configs of feature transformation: each trains and tests, and has the settings that its name states."""

from pathlib import Path

import numpy as np
import pytest

from reprefine.engine.build import build_model
from reprefine.engine.cli.launch import load_config
from reprefine.methods.feature_transform import read_run
from tests.configs.brief import ROOT
from tests.configs.walk import configs_below, train_and_test
from tests.helpers.run import run_train

FOLDER = ROOT / 'configs/feature_transform'
SMALL = 'moco-v2-ft_resnet14-narrow_12e_mnist5k'
IN100 = 'moco-v2-ft{}_resnet50_8xb32-coslr-200e_in100'


@pytest.mark.parametrize('path', configs_below('feature_transform/selfsup'), ids=lambda path: path.stem)
def test_trains_and_tests(path, tmp_path, toy_folder):
    train_and_test(path, tmp_path, toy_folder)


def transform_of(folder: str, name: str) -> dict:
    """Return the arguments of the transform that a config's model has."""
    return build_model(load_config(str(FOLDER / folder / f'{name}.py'))).feature_transform.config


def test_the_transform_is_the_published_one():
    for name in (SMALL, IN100.format('')):
        config = transform_of('selfsup', name)
        assert config['pos'] == dict(dist='beta', alpha=2.0, shift=1.0, granularity='batch')
        assert config['neg'] == dict(dist='beta', alpha=1.6, shift=0.0, granularity='batch')
        assert config['post_norm'] is None


@pytest.mark.parametrize('path', configs_below('feature_transform/selfsup'), ids=lambda path: path.stem)
def test_differs_from_its_twin_by_the_transform_alone(path):
    cfg, baseline = (load_config(str(p)) for p in (path, baseline_of(path)))
    assert cfg.model.pop('feature_transform')
    assert cfg.model.pop('type') == 'reprefine.MoCoFT'
    baseline.model.pop('type')
    assert cfg.model == baseline.model
    for key in ('train_dataloader', 'optim_wrapper', 'param_scheduler', 'train_cfg', 'data_preprocessor'):
        assert cfg[key] == baseline[key]


def baseline_of(path: Path) -> Path:
    return ROOT / 'configs/baselines/selfsup' / path.name.replace('-ft', '', 1)


def test_small_run_records_harder_positives_at_every_step(tmp_path):
    options = ('train_cfg.max_epochs=2', 'train_dataloader.dataset.indices=256', 'param_scheduler=None')
    options += tuple(f'custom_hooks.1.{side}.dataset.indices=100' for side in ('bank', 'query'))
    config = FOLDER / 'selfsup' / f'{SMALL}.py'
    assert run_train(str(config), '--work-dir', str(tmp_path), '--cfg-options', *options) == 0
    run = read_run(tmp_path)
    assert len(run.iters) == 8
    values = run.values
    assert all(np.isfinite(column).all() for column in values.values())
    assert (values['pos_mean'] < values['raw_pos_mean']).all()
