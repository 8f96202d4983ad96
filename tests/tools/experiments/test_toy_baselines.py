"""Recipes of the baselines on toy data."""

import numpy as np
import pytest
from mmengine.config import DictAction
from toy_data import SETS

from reprefine.engine.cli.launch import load_config
from tests.helpers.run_tool import import_beside, run_tool

TOOL = 'experiments/toy_baselines.py'
RECIPES, chance = import_beside(TOOL, 'toy_baselines').RECIPES, import_beside(TOOL, 'toy_recipes.chance')


def load(recipe, options):
    pairs = (option.split('=', 1) for option in options)
    return load_config(str(recipe.config_file), {key: DictAction._parse_iterable(value) for key, value in pairs})


def test_every_toy_set_has_a_recipe():
    covered = {recipe.toy_set for recipe in RECIPES.values()}
    assert covered == SETS.keys() - {'inaturalist2018'}  # whose baseline starts from an encoder of MoCo


@pytest.mark.parametrize('name', RECIPES)
def test_the_options_of_a_recipe_are_keys_of_its_config(name):
    recipe = RECIPES[name]
    cfg = load(recipe, (*recipe.both, *recipe.train))
    length = cfg.train_cfg.get('max_epochs') or cfg.train_cfg.max_iters
    assert recipe.checkpoint.endswith(f'_{length}.pth')
    assert recipe.chance in chance.CHANCE
    if recipe.metric != 'loss':
        load(recipe, ('test_dataloader.num_workers=0', *recipe.both))


def test_chance_of_the_most_frequent_class(monkeypatch):
    """Two of three images have the most frequent class."""

    class Labels:
        @staticmethod
        def get_gt_labels():
            return np.array([3, 3, 5])

    monkeypatch.setattr(chance, '_build', lambda cfg, split: Labels)
    assert chance.frequent_class(None) == pytest.approx(200 / 3)


def test_unknown_recipe_is_a_usage_error(capsys):
    with pytest.raises(SystemExit) as stopped:
        run_tool(TOOL, '--only', 'mars')
    assert stopped.value.code == 2
    assert "invalid choice: 'mars'" in capsys.readouterr().err
