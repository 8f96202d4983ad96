"""The list of the model zoo, and its page."""

import json

import pytest
import yaml

from tests.helpers.repository import ROOT
from tests.helpers.run_tool import load_tool, run_tool

TOOL = 'analysis_tools/list_configs.py'


def test_rows_are_selected_by_method_and_task(capsys):
    assert run_tool(TOOL, '--method', 'pddr', '--task', 'detection', '--json') == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row['method'] for row in rows} == {'pddr'}
    assert 'box AP 36.8' in {row['published'] for row in rows}
    assert run_tool(TOOL, '--method', 'pddr', '--task', 'detection') == 0
    assert 'configs/pddr/detection/retinanet_r50-pda_fpn_1x_coco.py' in capsys.readouterr().out


def test_a_word_without_configs_is_refused_with_the_names_that_have_some(capsys):
    assert run_tool(TOOL, '--task', 'nothing') == 1
    message = capsys.readouterr().err
    assert 'no config has task nothing; methods: denoiserep, dvt' in message and 'object detection' in message


@pytest.fixture(scope='module')
def names():
    return load_tool(TOOL)[0]


def test_every_config_of_the_metafiles_has_a_row(names):
    metafiles = ROOT.glob('configs/*/metafile.yml')
    listed = [model['Config'] for file in metafiles for model in yaml.safe_load(file.read_text())['Models']]
    assert len(listed) > 100
    assert {row['config'] for row in names['zoo_rows']()} == set(listed)


def test_the_page_is_the_list_of_today(names):
    assert (ROOT / 'docs/model_zoo.md').read_text() == names['zoo_page'](list(names['zoo_rows']())), 'run make pages'
