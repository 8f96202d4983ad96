"""The configs of the tree: short leaves, each refinement with its twin, metafiles that name what exists."""

import re
from pathlib import Path

import pytest
import yaml

from tests.configs.brief import ROOT
from tests.configs.published_recipes import RECIPES
from tests.configs.published_recipes import rows as recipe_rows
from tests.configs.walk import CONFIGS, configs_below, twin_of

METAFILES = sorted((ROOT / 'configs').rglob('metafile.yml'))


def test_every_config_is_trained_and_tested_by_one_of_these_files():
    files = [file for file in Path(__file__).parent.glob('test_*.py') if file.name != Path(__file__).name]
    calls = ' '.join(call for file in files for call in re.findall(r'configs_below\((.*?)\)', file.read_text(), re.S))
    assert len(CONFIGS) > 80
    assert sorted(configs_below(*set(re.findall(r"'([\w/]+)'", calls)))) == sorted(CONFIGS)


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_leaf_configs_are_short(path):
    assert len(path.read_text().splitlines()) <= 25


@pytest.mark.parametrize('path', configs_below('denoiserep'), ids=lambda path: path.stem)
def test_every_denoiserep_config_has_its_unrefined_twin(path):
    assert twin_of(path).is_file()


@pytest.mark.parametrize('file', METAFILES, ids=lambda file: file.parent.name)
def test_metafile_names_configs_that_exist(file):
    content = yaml.safe_load(file.read_text())
    assert (ROOT / content['Collections'][0]['README']).is_file()
    assert content['Models']
    for model in content['Models']:
        assert (ROOT / model['Config']).is_file()
        assert Path(model['Config']).stem == model['Name']


@pytest.mark.parametrize('file', METAFILES, ids=lambda file: file.parent.name)
def test_results_are_measured_here_and_published_numbers_stand_apart(file):
    assert 'published' not in file.read_text().replace('Published:', '')
    for model in yaml.safe_load(file.read_text())['Models']:
        assert not {'Results', 'Published'} <= model.keys()
        for entry in model.get('Published', ()):
            assert entry.keys() <= {'Task', 'Dataset', 'Metrics', 'Baseline'}
            assert entry['Metrics'].keys() >= entry.get('Baseline', {}).keys()


def test_the_model_index_imports_every_metafile():
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text())
    assert index == {'Import': [file.relative_to(ROOT).as_posix() for file in METAFILES]}


def test_every_published_number_of_a_metafile_is_that_of_a_recipe():
    """So that it stands beside a config which follows the published recipe."""
    rows = {row['config'] for method in RECIPES for row in recipe_rows(method)}
    models = [model for file in METAFILES for model in yaml.safe_load(file.read_text())['Models']]
    published = {
        model['Config'].removeprefix('configs/').removesuffix('.py') for model in models if 'Published' in model
    }
    assert published - rows == set()
