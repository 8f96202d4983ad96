"""Weights in another entry or with a prefix are refused; the options in the message load them."""

import re
import shlex

import mmengine
import pytest
import torch

from tests.helpers.run import DENOISED, DIGITS, SMALL, run_test, run_train, train_digits
from tests.helpers.run_tool import run_tool

LINE = r"0.0% of the model loaded: 0 keys matched, .*; its entry 'teacher' with .* \d+ of \d+ keys: give (--.*) \("


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A finished run of two epochs."""
    work_dir = tmp_path_factory.mktemp('trained')
    assert train_digits(work_dir) == 0
    return work_dir / 'epoch_2.pth'


@pytest.fixture(scope='module')
def foreign(trained):
    """The same weights in an entry and with a prefix of other code."""
    state = torch.load(trained, weights_only=True)['state_dict']
    path = trained.with_name('foreign.pth')
    torch.save(dict(teacher={f'module.model.{key}': value for key, value in state.items()}, epoch=2), path)
    return str(path)


def options_of_refusal(capsys, line=LINE):
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.search(line, error), error
    return shlex.split(re.search(line, error)[1])


def metrics(tmp_path, *argv):
    out = tmp_path / 'metrics.json'
    assert run_test(DIGITS, *argv, '--work-dir', str(tmp_path), '--out', str(out), *SMALL) == 0
    return mmengine.load(out)


def test_a_test_refuses_a_file_that_loads_nothing_and_the_suggested_options_load_it(trained, foreign, tmp_path, capsys):
    assert run_test(DIGITS, foreign, '--work-dir', str(tmp_path), *SMALL) == 1
    options = options_of_refusal(capsys)
    assert options == ['--checkpoint-key', 'teacher', '--revise-keys', r'^module\.model\.=']
    assert metrics(tmp_path, foreign, *options) == metrics(tmp_path, str(trained))
    # With min_load_ratio=0 at least one weight has to be loaded.
    assert run_test(DIGITS, foreign, '--work-dir', str(tmp_path), *SMALL, '+min_load_ratio=0.0') == 1


def test_training_loads_it_with_flags_or_config_keys(trained, foreign, tmp_path, capsys):
    start = ('--cfg-options', f'load_from={foreign}', 'train_cfg.max_epochs=1', 'optim_wrapper.optimizer.lr=0.0')
    assert train_digits(tmp_path / 'a', *start) == 1
    options = options_of_refusal(capsys)
    assert train_digits(tmp_path / 'a', *start, *options) == 0
    config = tmp_path / 'digits.py'
    keys = r"checkpoint_key = 'teacher'; revise_keys = [(r'^module\.model\.', '')]; min_load_ratio = 0.5"
    config.write_text(f'_base_ = {DIGITS!r}\n{keys}\n')
    assert run_train(str(config), '--work-dir', str(tmp_path / 'b'), *SMALL, *start) == 0
    before = torch.load(trained, weights_only=True)['state_dict']
    for run in 'ab':
        after = torch.load(tmp_path / run / 'epoch_1.pth', weights_only=True)['state_dict']
        assert all(torch.equal(after[key], value) for key, value in before.items())
    # The keys for load_from do not apply to the run's own checkpoints, in testing and resuming.
    own = str(tmp_path / 'b' / 'epoch_1.pth')
    assert run_test(str(config), own, '--work-dir', str(tmp_path / 'c'), *SMALL) == 0
    argv = (*SMALL, start[-1], '--resume', own)
    assert run_train(str(config), '--work-dir', str(tmp_path / 'd'), *argv) == 0


def test_a_test_requires_the_whole_model_whatever_the_config_requires_for_training(trained, tmp_path, capsys):
    config = tmp_path / 'digits.py'
    config.write_text(f'_base_ = {DIGITS!r}\nmin_load_ratio = 0.1\n')
    state = torch.load(trained, weights_only=True)['state_dict']
    del state['backbone.cls_token']
    torch.save(state, tmp_path / 'partial.pth')
    assert run_test(str(config), str(tmp_path / 'partial.pth'), '--work-dir', str(tmp_path), *SMALL) == 1
    assert '1 missing (backbone.cls_token); at least 100% needed' in capsys.readouterr().err


def test_a_refinement_reads_renamed_weights_of_its_base_model(trained, tmp_path, capsys):
    """Its own parameters, which the file lacks, count neither as missing nor as loaded."""
    state = torch.load(trained, weights_only=True)['state_dict']
    torch.save({f'model.{key}': value for key, value in state.items()}, tmp_path / 'a.pth')
    start = (f'load_from={tmp_path / "a.pth"}', 'train_cfg.max_epochs=1')
    argv = (DENOISED, '--work-dir', str(tmp_path / 'run'), *SMALL, *start)
    line = r'0.0% of the model loaded: 0 keys matched, .* matches \d+ of \d+ keys: give (--.*) \('
    assert run_train(*argv) == 1
    assert run_train(*argv, *options_of_refusal(capsys, line)) == 0


def test_a_fully_loaded_module_is_a_line_of_the_log(trained, tmp_path):
    config = tmp_path / 'digits.py'
    start = f"dict(type='Pretrained', checkpoint={str(trained)!r}, prefix='backbone.')"
    config.write_text(f'_base_ = {DIGITS!r}\nmodel = dict(backbone=dict(init_cfg={start}))\n')
    assert run_train(str(config), '--work-dir', str(tmp_path / 'run'), *SMALL) == 0
    log = next(tmp_path.glob('run/*/*.log')).read_text()
    assert f"VisionTransformer starts from {trained} ('backbone.'): 100.0% of the model loaded: " in log


def test_flags_without_load_from_are_refused(trained, tmp_path, capsys):
    for more in ((), ('--resume', str(trained))):
        assert train_digits(tmp_path / 'run', '--checkpoint-key', 'teacher', *more) == 1
        assert '--checkpoint-key and --revise-keys are for load_from' in capsys.readouterr().err
    assert train_digits(tmp_path / 'run', '--revise-keys', 'module') == 1
    assert '--revise-keys module: expected PATTERN=REPLACEMENT' in capsys.readouterr().err


@pytest.mark.parametrize('keys', ['checkpoint_key = 3', "revise_keys = 'module'", "revise_keys = [('a', 'b', 'c')]"])
def test_the_keys_of_a_config_are_checked(keys, tmp_path, capsys):
    (tmp_path / 'digits.py').write_text(f'_base_ = {DIGITS!r}\n{keys}\n')
    assert run_train(str(tmp_path / 'digits.py'), '--work-dir', str(tmp_path / 'run'), *SMALL) == 1
    assert f'{keys.split()[0]}: must be ' in capsys.readouterr().err


def test_a_published_file_needs_no_options(trained, foreign, tmp_path, capsys):
    options = ('--checkpoint-key', 'teacher', '--revise-keys', r'^module\.model\.=')
    assert run_tool('model_converters/publish_model.py', foreign, tmp_path / 'a.pth', *options) == 0
    written = torch.load(next(tmp_path.glob('a-*.pth')), weights_only=True)['state_dict']
    state = torch.load(trained, weights_only=True)['state_dict']
    assert written.keys() == state.keys()
    assert all(torch.equal(written[key], value) for key, value in state.items())
    assert run_tool('model_converters/publish_model.py', foreign, tmp_path / 'b.pth', '--checkpoint-key', 'ema') == 1
    assert "has no weights under the key 'ema'; it has teacher" in capsys.readouterr().err
