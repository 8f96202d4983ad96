"""Every config of the tree loads, and trains and tests for a few iterations on its data."""

import json
from pathlib import Path

import pytest
import yaml

from reprefine.engine.launch import load_config
from tests.helpers.run import run_test, run_train

ROOT = Path(__file__).parents[2]
CONFIGS = sorted(path for path in (ROOT / 'configs').rglob('*.py') if '_base_' not in path.parts)


def test_the_tree_is_found():
    assert len(CONFIGS) >= 8


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_config_trains_and_tests(path, tmp_path):
    options = ['train_dataloader.dataset.indices=32', 'val_dataloader.dataset.indices=20']
    cfg = load_config(str(path))
    if cfg.train_cfg.get('max_epochs'):
        options.append('train_cfg.max_epochs=1')
    if cfg.get('load_from'):
        options.append('load_from=None')
    assert run_train(str(path), '--work-dir', str(tmp_path), '--cfg-options', *options) == 0
    metrics = tmp_path / 'metrics.json'
    few = ['--cfg-options', 'test_dataloader.dataset.indices=20', '--work-dir', str(tmp_path)]
    assert run_test(str(path), str(tmp_path / 'epoch_1.pth'), '--out', str(metrics), *few) == 0
    assert json.loads(metrics.read_text())['accuracy/top1'] % 5 == 0  # of 20 images


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_leaf_configs_are_short(path):
    assert len(path.read_text().splitlines()) <= 25


def test_every_denoiserep_config_has_its_unrefined_twin():
    for path in (p for p in CONFIGS if 'denoiserep' in p.parts):
        model = load_config(str(path)).model
        twins = [p for p in CONFIGS if 'baselines' in p.parts and load_config(str(p)).model == model.model]
        assert twins, path


@pytest.mark.parametrize('file', sorted((ROOT / 'configs').rglob('metafile.yml')), ids=lambda file: file.parent.name)
def test_metafile_names_configs_that_exist(file):
    content = yaml.safe_load(file.read_text())
    assert (ROOT / content['Collections'][0]['README']).is_file()
    assert content['Models']
    for model in content['Models']:
        assert (ROOT / model['Config']).is_file()
        assert Path(model['Config']).stem == model['Name']
