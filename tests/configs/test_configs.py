"""The configs of the tree: short leaves, each refinement with its twin, metafiles that name what exists."""

import re
from pathlib import Path

import pytest
import yaml

from tests.configs.brief import ROOT
from tests.configs.model_index import INDEX, METAFILES, model_index
from tests.configs.published_recipes import RECIPES
from tests.configs.published_recipes import rows as recipe_rows
from tests.configs.walk import CONFIGS, configs_below
from tests.helpers.methods import METHODS

HEADINGS = ('## Results', '## Cost', '## Implementation details', '## Citation')


def test_every_config_is_trained_and_tested_by_one_of_these_files():
    """Each file names folders below ``configs/`` as ``configs_below('<folder>')``."""
    files = [*(ROOT / 'tests/configs').glob('test_*.py'), *(ROOT / 'tests/methods').glob('*/configs/test_*.py')]
    files.remove(Path(__file__))
    calls = ' '.join(
        call for file in files for call in re.findall(r'configs_below\((.*?)\)', file.read_text(), re.DOTALL)
    )
    assert len(CONFIGS) > 80
    tried = configs_below(*set(re.findall(r"'([\w/]+)'", calls)))
    missing = sorted(str(path.relative_to(ROOT)) for path in set(CONFIGS) - set(tried))
    assert not missing, f'train and test these in a test file of tests/methods/<method>/configs: {missing}'


@pytest.mark.parametrize('method', METHODS)
def test_every_method_has_what_users_and_tests_look_for(method):
    missing = [
        f'write {name.format(method)}{why}'
        for name, why in {
            'configs/{}/README.md': ' with the sections of the other methods',
            'configs/{}/metafile.yml': ' with its collection and models',
            'tests/methods/{}/subject.py': ' as tests/helpers/subjects.py says',
            'tests/methods/{}/**/test_resume.py': ': killed and resumed equals uninterrupted (tests/helpers/killed.py)',
        }.items()
        if not list(ROOT.glob(name.format(method)))
    ]
    assert not missing, '\n'.join(missing)
    text = (ROOT / f'configs/{method}/README.md').read_text()
    assert [heading for heading in HEADINGS if f'\n{heading}\n' not in text] == []


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_leaf_configs_are_short(path):
    assert len(path.read_text().splitlines()) <= 25


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
    assert INDEX.read_text() == model_index(), 'run make pages'


def test_every_published_number_of_a_metafile_is_that_of_a_recipe():
    """So that it stands beside a config which follows the published recipe."""
    rows = {row['config'] for method in RECIPES for row in recipe_rows(method)}
    models = [model for file in METAFILES for model in yaml.safe_load(file.read_text())['Models']]
    published = {
        model['Config'].removeprefix('configs/').removesuffix('.py') for model in models if 'Published' in model
    }
    assert published - rows == set()
