"""compare_cost.py, get_flops.py and print_config.py as a user calls them."""

import json

import pytest
from mmengine.config import Config

from tests.helpers.run_tool import run_tool as run
from tests.helpers.tiny_hosts import CLASSIFIER, CONFIGS, DETECTOR, write_config, write_images


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp('scenes')
    write_images(path)
    return path


def test_compare_cost_writes_what_it_prints(folder, tmp_path, capsys):
    config = write_config(folder, CLASSIFIER)
    out = tmp_path / 'cost.json'
    rounds = ('--repeats', 2, '--warmup', 1, '--out', out)
    halved = ('--baseline-cfg-options', 'model.head.num_classes=4', '--deploy')
    assert run('analysis_tools/compare_cost.py', config, '--baseline', config, *rounds, *halved) == 0
    report = json.loads(out.read_text())
    figures = {figure['name']: figure for figure in report['figures']}
    # Two more classes: two more rows of 64 weights and a bias.
    parameters = figures['parameters']
    assert parameters['baseline']['median'] - parameters['config']['median'] == 2 * 65
    assert figures['training step']['ratio']['count'] == 2
    assert report['inputs']['training'] == {'source': 'first batch of train_dataloader', 'batch_size': 2}
    assert report['arguments']['baseline_cfg_options'] == {'model.head.num_classes': 4}
    assert {'python', 'torch', 'mmengine', 'reprefine', 'mmpretrain'} <= set(report['environment']['versions'])
    printed = capsys.readouterr().out
    assert 'training step' in printed
    assert 'not measured' not in printed


def test_compare_cost_without_data_says_so(folder, tmp_path, capsys):
    config = write_config(tmp_path, CLASSIFIER)
    few = ('--repeats', 1, '--warmup', 0, '--only', 'train', 'flops')
    assert run('analysis_tools/compare_cost.py', config, '--baseline', config, *few) == 0
    printed = capsys.readouterr().out
    assert 'training step: not measured, no training batch (FileNotFoundError' in printed
    assert 'random images of 32x40' in printed


def test_compare_cost_refuses_an_unwritable_output_first(folder, capsys):
    config = write_config(folder, CLASSIFIER)
    assert run('analysis_tools/compare_cost.py', config, '--baseline', config, '--out', folder) == 1
    assert '--out' in capsys.readouterr().err


@pytest.mark.parametrize('host', CONFIGS)
def test_compare_cost_on_every_host(host, folder, tmp_path):
    config = write_config(folder, CONFIGS[host], f'{host}.py')
    out = tmp_path / 'cost.json'
    rounds = ('--repeats', 1, '--warmup', 0, '--batch-size', 2, '--only', 'train', 'inference')
    assert run('analysis_tools/compare_cost.py', config, '--baseline', config, *rounds, '--out', out) == 0
    parameters, inference, training = json.loads(out.read_text())['figures']
    assert parameters['ratio']['median'] == 1
    for figure in (inference, training):
        assert figure['source'] == 'first batch of train_dataloader'
        assert figure['ratio']['median'] == figure['config']['median'] / figure['baseline']['median']


@pytest.mark.parametrize('host', CONFIGS)
def test_get_flops_on_every_host(host, folder, capsys):
    config = write_config(folder, CONFIGS[host], f'{host}.py')
    assert run('analysis_tools/get_flops.py', config, '--shape', 64, 64) == 0
    printed = capsys.readouterr().out
    assert 'random images of 64x64' in printed
    assert 'backbone' in printed
    assert 'whole model' in printed


def test_get_flops_matches_the_official_parameter_count(folder, capsys):
    config = write_config(folder, "_base_ = 'mmpretrain::resnet/resnet18_8xb32_in1k.py'\n")
    assert run('analysis_tools/get_flops.py', config) == 0
    printed = capsys.readouterr().out
    # torchvision's resnet18 has 11,689,512 parameters; 1.814 G multiply-adds at 224x224.
    assert '11,689,512' in printed
    assert '3,628,146,688' in printed


def test_get_flops_with_data_root_reads_a_real_image(folder, capsys):
    config = write_config(folder, CLASSIFIER)
    assert run('analysis_tools/get_flops.py', config, '--data-root', folder) == 0
    assert 'first batch of test_dataloader' in capsys.readouterr().out
    assert run('analysis_tools/get_flops.py', config, '--data-root', folder, '--shape', 64, 64) == 1
    assert 'exclude each other' in capsys.readouterr().err


@pytest.mark.parametrize('suffix', ['.py', '.json'])
def test_print_config_round_trip(suffix, folder, tmp_path, capsys):
    config = write_config(folder, DETECTOR)
    saved = tmp_path / 'new' / f'saved{suffix}'
    assert run('misc/print_config.py', config, '--cfg-options', 'train_cfg.max_epochs=3', '--save-path', saved) == 0
    printed = capsys.readouterr().out
    assert 'max_epochs=3' in printed
    assert "type='RetinaNet'" in printed
    reloaded = Config.fromfile(saved)
    assert reloaded.train_cfg.max_epochs == 3
    assert run('misc/print_config.py', saved, '--diff', saved) == 0
    assert capsys.readouterr().out.strip() == 'no difference'


def test_print_config_diff_shows_the_changed_line_alone(folder, capsys):
    config = write_config(folder, CLASSIFIER)
    assert run('misc/print_config.py', config, '--diff', config, '--cfg-options', 'train_cfg.max_epochs=7') == 0
    changed = [
        line for line in capsys.readouterr().out.splitlines() if line[:1] in '+-' and line[:3] not in ('+++', '---', '')
    ]
    assert [line[0] for line in changed] == ['-', '+']
    assert 'max_epochs=10' in changed[0]
    assert 'max_epochs=7' in changed[1]


def test_print_config_refuses_an_unknown_format(folder, capsys):
    config = write_config(folder, CLASSIFIER)
    assert run('misc/print_config.py', config, '--save-path', folder / 'x.txt') == 1
    assert '.json' in capsys.readouterr().err
    assert not (folder / 'x.txt').exists()
