import runpy
import sys

import numpy as np
import pytest
from mmengine.config import DictAction

from reprefine.engine.cli.launch import load_config
from reprefine.toy_data import SETS
from tests.helpers.run import ROOT
from tests.helpers.run_tool import run_tool

FOLDER = ROOT / 'tools/toy_baselines'


@pytest.fixture(scope='module')
def names():
    sys.path.insert(0, str(FOLDER))
    yield runpy.run_path(str(FOLDER / 'recipes.py')) | runpy.run_path(str(FOLDER / 'chance.py'))
    sys.path.remove(str(FOLDER))


def merged(recipe, options):
    pairs = (option.split('=', 1) for option in options)
    return load_config(str(recipe.config_file), {key: DictAction._parse_iterable(value) for key, value in pairs})


def test_every_toy_set_has_a_run(names):
    covered = {recipe.toy_set for recipe in names['RECIPES'].values()}
    assert covered == SETS.keys() - {'inaturalist2018'}  # its baseline trains on from an encoder of MoCo


def test_the_options_of_every_recipe_name_something_in_its_config(names):
    for name, recipe in names['RECIPES'].items():
        cfg = merged(recipe, (*recipe.both, *recipe.train))
        length = cfg.train_cfg.get('max_epochs') or cfg.train_cfg.max_iters
        assert recipe.checkpoint.endswith(f'_{length}.pth'), name
        assert recipe.chance in names['CHANCE']
        if recipe.metric != 'loss':
            merged(recipe, ('test_dataloader.num_workers=0', *recipe.both))


def test_chance_of_a_constant_answer(names):
    """Three images of two classes in unequal parts."""

    class Labels:
        @staticmethod
        def get_gt_labels():
            return np.array([3, 3, 5])

    names['frequent_class'].__globals__['_build'] = lambda cfg, split: Labels
    assert names['frequent_class'](None) == pytest.approx(200 / 3)


def test_unknown_run_is_a_usage_error(capsys):
    with pytest.raises(SystemExit) as stopped:
        run_tool('toy_baselines/run.py', '--only', 'mars')
    assert stopped.value.code == 2
    assert "invalid choice: 'mars'" in capsys.readouterr().err
