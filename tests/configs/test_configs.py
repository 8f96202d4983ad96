"""The configs of the tree: short leaves, each refinement with its twin, metafiles that name what exists."""

import re
from pathlib import Path

import pytest
import yaml

from tests.configs.brief import ROOT
from tests.configs.walk import CONFIGS, configs_below, twin_of


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


@pytest.mark.parametrize('file', sorted((ROOT / 'configs').rglob('metafile.yml')), ids=lambda file: file.parent.name)
def test_metafile_names_configs_that_exist(file):
    content = yaml.safe_load(file.read_text())
    assert (ROOT / content['Collections'][0]['README']).is_file()
    assert content['Models']
    for model in content['Models']:
        assert (ROOT / model['Config']).is_file()
        assert Path(model['Config']).stem == model['Name']
