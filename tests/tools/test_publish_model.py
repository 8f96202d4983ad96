"""Publishing from the command line; what it writes is taken wherever a checkpoint is."""

import json

import pytest
import torch

from tests.helpers.run import DIGITS, SMALL, run_test, run_train, start, train_digits
from tests.helpers.run_tool import run_tool

TOOL = 'model_converters/publish_model.py'
SUFFIXES = ('.pth', '.safetensors')


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """The checkpoint of a finished run that averages its weights."""
    work_dir = tmp_path_factory.mktemp('trained')
    config = tmp_path_factory.mktemp('config') / 'averaged.py'
    config.write_text(f"_base_ = {DIGITS!r}\ncustom_hooks = [dict(type='EMAHook', momentum=0.5)]\n")
    assert run_train(str(config), '--work-dir', str(work_dir), *SMALL, 'train_cfg.max_epochs=1') == 0
    return work_dir / 'epoch_1.pth'


@pytest.fixture(scope='module', params=SUFFIXES)
def published(request, trained, tmp_path_factory):
    """The published file of each format."""
    folder = tmp_path_factory.mktemp('published')
    assert run_tool(TOOL, trained, folder / f'digits{request.param}') == 0
    (file,) = folder.iterdir()
    return file


def weights(file):
    return torch.load(file, weights_only=True)['state_dict']


def metrics(checkpoint, folder):
    out = folder / 'metrics.json'
    assert run_test(DIGITS, str(checkpoint), '--work-dir', str(folder), '--out', str(out), *SMALL) == 0
    return json.loads(out.read_text())


def test_the_tool_says_what_it_kept(trained, tmp_path, capsys):
    assert run_tool(TOOL, trained, tmp_path / 'digits.pth') == 0
    out = capsys.readouterr().out
    assert ' tensors, the moving average of the run\n' in out
    assert 'meta: kept dataset_meta, epoch, iter, mmengine_version' in out
    assert 'left out cfg, experiment_name, ' in out
    (file,) = tmp_path.iterdir()
    content = file.read_bytes()
    assert str(trained.parent).encode() not in content
    assert b'train_dataloader' not in content
    assert b'train_dataloader' in trained.read_bytes()


@pytest.fixture(scope='module')
def expected(trained, tmp_path_factory):
    """Metrics of the unpublished checkpoint."""
    return metrics(trained, tmp_path_factory.mktemp('expected'))


def test_a_published_file_tests_as_its_checkpoint(expected, published, tmp_path):
    assert metrics(published, tmp_path) == expected


def test_a_run_starts_from_a_published_file_with_its_very_weights(trained, published, tmp_path):
    still = ('train_cfg.max_epochs=1', 'optim_wrapper.optimizer.lr=0.0', f'load_from={published}')
    assert train_digits(tmp_path, '--cfg-options', *still) == 0
    after, before = weights(tmp_path / 'epoch_1.pth'), weights(trained)
    assert after.keys() == before.keys()
    assert all(torch.equal(after[key], value) for key, value in before.items())


@pytest.mark.parametrize('prefix', ['backbone.', None])
def test_a_part_starts_from_a_safetensors_file(trained, tmp_path, prefix):
    state = {key: value for key, value in weights(trained).items() if key.startswith('backbone.')}
    if prefix is None:
        state = {key.removeprefix('backbone.'): value for key, value in state.items()}
    torch.save(dict(state_dict=state), tmp_path / 'backbone.pth')
    assert run_tool(TOOL, tmp_path / 'backbone.pth', tmp_path / 'part.safetensors') == 0
    (file,) = tmp_path.glob('part-*')
    start = [f'+model.backbone.init_cfg.prefix={prefix}'] if prefix else []
    start += ['+model.backbone.init_cfg.type=Pretrained', f'+model.backbone.init_cfg.checkpoint={file}']
    start += ['train_cfg.max_epochs=1', 'optim_wrapper.optimizer.lr=0.0']
    assert train_digits(tmp_path / 'run', '--cfg-options', *start) == 0
    after = weights(tmp_path / 'run' / 'epoch_1.pth')
    same = {key for key, value in weights(trained).items() if torch.equal(after[key], value)}
    assert same == {key for key in after if key.startswith('backbone.')}


def test_a_published_file_is_not_resumed(published, tmp_path, capsys):
    assert train_digits(tmp_path, '--resume', str(published)) == 1
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert f'checkpoint {published} holds no training state: give it as load_from, not to resume' in line


def test_bad_input_is_one_line(trained, tmp_path, capsys):
    assert run_tool(TOOL, trained, tmp_path / 'a.zip') == 1
    assert capsys.readouterr().err.strip().endswith("a.zip: the suffix is '.zip'; it must be .pth, .pt or .safetensors")
    assert run_tool(TOOL, tmp_path / 'absent.pth', tmp_path / 'a.pth') == 1
    assert 'absent.pth does not exist' in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_tool_reads_the_checkpoint_of_a_run_in_a_process_of_its_own(trained, tmp_path):
    process = start(f'tools/{TOOL}', str(trained), str(tmp_path / 'digits.pth'))
    error = process.communicate()[1]
    assert process.returncode == 0, error
    assert len(list(tmp_path.iterdir())) == 1
