"""Reparameterisation of DenoiseRep checkpoints from the command line."""

import json
import re

import pytest
import torch

from reprefine.engine.build import build_model
from reprefine.engine.checkpoints.checkpoint import read_checkpoint
from reprefine.engine.cli.launch import load_config
from tests.helpers.run import DENOISED, DIGITS, run_test, run_train
from tests.helpers.run_tool import run_tool

TOOL = 'model_converters/reparameterize_model.py'


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """A DenoiseRep run over two phases, with the deployed checkpoint of its hook."""
    work_dir = tmp_path_factory.mktemp('denoised')
    options = ['load_from=None', 'train_cfg.max_epochs=2', 'custom_hooks.0.phase_length=1']
    options += ['train_dataloader.dataset.indices=96', 'val_dataloader.dataset.indices=32']
    assert run_train(DENOISED, '--work-dir', str(work_dir), '--cfg-options', *options) == 0
    return work_dir


def metrics(config, checkpoint, tmp_path):
    file = tmp_path / 'metrics.json'
    assert run_test(config, str(checkpoint), '--work-dir', str(tmp_path), '--out', str(file)) == 0
    return json.loads(file.read_text())


def test_the_deployed_checkpoint_is_one_of_the_baseline_and_predicts_the_same(run, tmp_path):
    out = tmp_path / 'plain.pth'
    assert run_tool(TOOL, DENOISED, run / 'epoch_2.pth', out) == 0
    plain = torch.load(out, weights_only=True)['state_dict']
    build_model(load_config(DIGITS)).load_state_dict(plain)  # strict
    by_hook = torch.load(run / 'epoch_2_deploy.pth', weights_only=True)['state_dict']
    assert plain.keys() == by_hook.keys()
    assert all(torch.equal(plain[key], by_hook[key]) for key in plain)
    trained = torch.load(run / 'epoch_2.pth', weights_only=True)['state_dict']
    changed = [key for key in plain if not torch.equal(plain[key], trained[key])]
    assert len(changed) == 12
    assert all('.ffn.' in key for key in changed)
    assert metrics(DIGITS, out, tmp_path) == metrics(DENOISED, run / 'epoch_2.pth', tmp_path)


def test_plain_export_is_what_is_written_anyway(run, tmp_path, capsys):
    for name, options in (
        ('a.pth', ()),
        ('b.pth', ('--export-plain',)),
        ('c.safetensors', ('--plain-config', DIGITS)),
    ):
        assert run_tool(TOOL, DENOISED, run / 'epoch_2.pth', tmp_path / name, *options) == 0
        printed = capsys.readouterr().out
        assert '6 modules reparameterised (DenoiseLinear)' in printed
        assert 'on 6 layers and the model for random images of 8x8, for test image 1, for test image 2' in printed
    first, *others = (read_checkpoint(str(tmp_path / name)) for name in ('a.pth', 'b.pth', 'c.safetensors'))
    for other in others:
        assert other['meta']['deployed'] == first['meta']['deployed']
        assert all(torch.equal(value, other['state_dict'][key]) for key, value in first['state_dict'].items())
    assert metrics(DIGITS, tmp_path / 'c.safetensors', tmp_path) == metrics(DIGITS, tmp_path / 'a.pth', tmp_path)


def test_a_bias_that_the_plain_model_lacks_is_named(tmp_path, capsys):
    options = ['model.backbone.qkv_bias=False', "model.denoise.include=['qkv']", 'model.denoise.bias_policy=add']
    cfg = load_config(DENOISED, dict(option.split('=', 1) for option in options[:1]))
    cfg.model.backbone.qkv_bias = False
    cfg.model.denoise.update(include=['qkv'], bias_policy='add')
    torch.save(build_model(cfg).state_dict(), tmp_path / 'trained.pth')
    argv = [DENOISED, tmp_path / 'trained.pth', tmp_path / 'out.pth', '--export-plain', '--cfg-options', *options]
    assert run_tool(TOOL, *argv) == 1
    assert re.search(r'do not fit the baseline: .*unexpected \(\S+qkv.bias', capsys.readouterr().err)
    assert not (tmp_path / 'out.pth').exists()


def test_folding_twice_is_refused_and_writes_nothing(run, tmp_path, capsys):
    out = tmp_path / 'twice.pth'
    assert run_tool(TOOL, DENOISED, run / 'epoch_2_deploy.pth', out) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert 'epoch_2_deploy.pth is deployed already (DenoiseLinear)' in error
    assert not list(tmp_path.iterdir())


def test_an_existing_file_is_never_overwritten(run, tmp_path, capsys):
    out = tmp_path / 'precious.pth'
    out.write_text('precious')
    assert run_tool(TOOL, DENOISED, run / 'epoch_2.pth', out) == 1
    assert f'{out} exists' in capsys.readouterr().err
    assert out.read_text() == 'precious'


def test_a_layer_that_differs_is_named_and_nothing_is_written(run, tmp_path, capsys):
    out = tmp_path / 'out.pth'
    assert run_tool(TOOL, DENOISED, run / 'epoch_2.pth', out, '--tolerance', 1e-20) == 1
    assert re.search(
        r'epoch_2.pth: the deployed form of backbone\.\S+ differs by .* more than 1.0e-20', capsys.readouterr().err
    )
    assert not out.exists()


def test_a_truncated_checkpoint_is_named(run, tmp_path, capsys):
    short = tmp_path / 'short.pth'
    short.write_bytes((run / 'epoch_2.pth').read_bytes()[:5000])
    assert run_tool(TOOL, DENOISED, short, tmp_path / 'out.pth') == 1
    assert f'checkpoint {short} cannot be read' in capsys.readouterr().err
    assert not (tmp_path / 'out.pth').exists()


def test_a_config_of_another_kind_is_refused(run, tmp_path, capsys):
    assert run_tool(TOOL, DIGITS, run / 'epoch_2.pth', tmp_path / 'out.pth') == 1
    assert 'the model of the config has no deployable layer' in capsys.readouterr().err


@pytest.mark.parametrize('start', ['load_from', 'resume'])
def test_a_run_does_not_start_from_a_folded_checkpoint(run, tmp_path, capsys, start):
    deployed = str(run / 'epoch_2_deploy.pth')
    argv = ['--resume', deployed] if start == 'resume' else ['--cfg-options', f'load_from={deployed}']
    assert run_train(DENOISED, '--work-dir', str(tmp_path), *argv) == 1
    error = capsys.readouterr().err
    assert 'deployed already' in error or 'holds no training state' in error
    assert not list(tmp_path.glob('*.pth'))


def test_a_pattern_without_match_is_one_line(tmp_path, capsys):
    options = ('--cfg-options', 'load_from=None', 'model.denoise.include=nothing')
    assert run_train(DENOISED, '--work-dir', str(tmp_path), *options) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "no layer can be converted with include='nothing'" in error
    assert 'backbone.patch_embed.projection' in error
