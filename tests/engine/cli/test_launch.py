import argparse

import pytest
from mmengine.config import Config

from reprefine.engine.cli.launch import (
    OptionsAction,
    add_run_arguments,
    config_from_args,
    default_work_dir,
    load_config,
    set_loader_defaults,
)
from reprefine.engine.errors import UserError
from tests.helpers.run import DIGITS, SMALL, run_test, run_train


@pytest.mark.parametrize(
    'config, work_dir',
    [
        ('configs/denoiserep/classification/x.py', 'work_dirs/denoiserep/classification/x'),
        ('/a/configs/b/configs/c/x.py', 'work_dirs/c/x'),
        ('/a/b/x.py', 'work_dirs/x'),
        ('/a/configs.py', 'work_dirs/configs'),
        ('/a/configs/x.v2.py', 'work_dirs/x.v2'),
    ],
)
def test_work_dir_mirrors_the_path_of_the_config(config, work_dir):
    assert default_work_dir(config) == work_dir


def write(path, text):
    path.write_text(text)
    return str(path)


def test_missing_config_suggests_the_nearest_name():
    with pytest.raises(UserError, match='vit-tiny_digit.py does not exist; did you mean .*/vit-tiny_digits.py'):
        load_config(DIGITS.replace('digits', 'digit'))


@pytest.mark.parametrize(
    'text, message',
    [
        ('a = (', 'never closed'),
        ("_base_ = './gone.py'", 'gone.py'),
        ('a = 1 / 0', 'ZeroDivisionError'),
        ("custom_imports = dict(imports=['no_such_module_x'])", 'no_such_module_x'),
    ],
)
def test_a_config_that_does_not_run_is_named(tmp_path, text, message):
    path = write(tmp_path / 'x.py', text)
    with pytest.raises(UserError, match=f'config {path} cannot be read: .*{message}'):
        load_config(path)


def test_yaml_is_refused_unread(tmp_path):
    folder = tmp_path / 'created'
    path = write(tmp_path / 'x.yaml', f'a: !!python/object/apply:os.mkdir ["{folder}"]')
    with pytest.raises(UserError, match='neither a .py nor a .json'):
        load_config(path)
    assert not folder.exists()


def test_options_and_data_root_are_applied(tmp_path):
    cfg = load_config(DIGITS, {'train_cfg.max_epochs': 3})
    assert cfg.train_cfg.max_epochs == 3


def parse(*argv):
    parser = argparse.ArgumentParser()
    add_run_arguments(parser)
    return parser.parse_args([DIGITS, *argv])


def test_flags_reach_the_config():
    cfg = config_from_args(parse('--no-pin-memory', '--work-dir', 'w'))
    assert cfg.work_dir == 'w'
    assert cfg.launcher == 'none'
    assert cfg.train_dataloader.pin_memory is False
    assert cfg.train_dataloader.collate_fn.type == 'default_collate'


def test_workers_persist_where_there_are_any_and_the_config_says_nothing():
    loaders = dict(train_dataloader=dict(num_workers=0), val_dataloader=dict(num_workers=2))
    cfg = Config(dict(**loaders, test_dataloader=dict(num_workers=2, persistent_workers=False)))
    set_loader_defaults(cfg, no_pin_memory=False)
    persist = [cfg[f'{name}_dataloader'].persistent_workers for name in ('train', 'val', 'test')]
    assert persist == [False, True, False]


def test_work_dir_of_the_config_comes_before_the_default():
    assert config_from_args(parse()).work_dir == 'work_dirs/baselines/classification/vit-tiny_digits'
    assert config_from_args(parse('--cfg-options', 'work_dir=mine')).work_dir == 'mine'


def test_option_without_value_is_a_usage_error(capsys):
    with pytest.raises(SystemExit) as stop:
        parse('--cfg-options', 'train_cfg.max_epochs')
    assert stop.value.code == 2
    assert "expected key=value, got 'train_cfg.max_epochs'" in capsys.readouterr().err


def test_several_processes_without_a_launcher_are_refused(monkeypatch):
    monkeypatch.setattr('torch.cuda.is_available', lambda: False)
    monkeypatch.delenv('RANK', raising=False)
    with pytest.raises(UserError, match='torchrun'):
        config_from_args(parse('--launcher', 'pytorch'))


@pytest.mark.parametrize('option', ['a=[1,(2', 'hooks=[dict(type="A"), f(1)]'])
def test_an_option_that_cannot_be_parsed_is_a_usage_error(option, capsys):
    parser = argparse.ArgumentParser('tool')
    parser.add_argument('--cfg-options', nargs='+', action=OptionsAction)
    with pytest.raises(SystemExit):
        parser.parse_args(['--cfg-options', option])
    assert capsys.readouterr().err.splitlines()[-1].startswith(f'tool: error: --cfg-options: {option} cannot be read (')


def test_configs_of_equal_name_in_different_folders_do_not_meet(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for folder in ('a', 'b', 'configs'):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / 'x.py', f'_base_ = {DIGITS!r}')
    assert run_train('a/x.py', *SMALL, 'train_cfg.max_epochs=1') == 0
    for argv in ((), ('--resume',)):
        assert run_train('b/x.py', *argv, *SMALL) == 1
        expected = f'work dir work_dirs/x is that of {tmp_path}/a/x.py, not of b/x.py: give another --work-dir'
        assert expected in capsys.readouterr().err
    assert run_test('b/x.py', 'work_dirs/x/epoch_1.pth', *SMALL) == 1
    assert run_train(str(tmp_path / 'a/x.py'), '--resume', *SMALL) == 0  # the same config by another path
    assert run_train('b/x.py', '--work-dir', 'work_dirs/y', *SMALL, 'train_cfg.max_epochs=1') == 0


@pytest.mark.parametrize(
    ('text', 'value'),
    [
        ("{'max_norm': 1.5, 'norm': None}", dict(max_norm=1.5, norm=None)),
        ('dict(type="EMAHook", momentum=1e-3, a=dict(b=[1]))', dict(type='EMAHook', momentum=1e-3, a=dict(b=[1]))),
        ("[dict(type='EMAHook'), {'type': 'A'}]", [dict(type='EMAHook'), dict(type='A')]),
        ("({'a': True},)", (dict(a=True),)),
        ('{}', {}),
        ('epoch_{}.pth', 'epoch_{}.pth'),
        ('two words', 'two words'),
        ('my dir/epoch 1.pth', 'my dir/epoch 1.pth'),
        ("'3'", 3),  # as mmengine has it
        ('1,2', [1, 2]),
        ('(1, 2)', (1, 2)),
        ('None', None),
    ],
)  # fmt: skip
def test_values_of_options(text, value):
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=OptionsAction)
    options = parser.parse_args(['--cfg-options', f'key={text}']).cfg_options
    assert options == dict(key=value)


@pytest.mark.parametrize('text', ['{max_norm: 1}', 'dict(1)', 'dict(**{})', '[{}, f()]', "{'a': open('x')}"])
def test_a_dict_that_cannot_be_read_is_refused(text, capsys):
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=OptionsAction)
    with pytest.raises(SystemExit):
        parser.parse_args(['--cfg-options', f'key={text}'])
    assert f'key={text} cannot be read' in capsys.readouterr().err


def test_a_dict_replaces_a_setting_that_is_none():
    parser = argparse.ArgumentParser()
    add_run_arguments(parser)
    args = parser.parse_args([DIGITS, '--cfg-options', "optim_wrapper.clip_grad={'max_norm': 5}"])
    assert config_from_args(args).optim_wrapper.clip_grad == dict(max_norm=5)
