"""Our configs as bases of others, by name of the package and by ``read_base()``."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.runner import Runner
from torch.optim import SGD

from reprefine.config_bases import CONFIGS, read_base
from reprefine.engine.cli.launch import load_config
from tests.helpers.run import DIGITS, SMALL, run_train

NAME = 'baselines/classification/vit-tiny_digits.py'
MODULE = 'reprefine.configs.baselines.classification.vit_tiny_digits'
BY_NAME = f"_base_ = 'reprefine::{NAME}'\n"
NEW_STYLE = f"""
from mmengine.config import read_base
from torch.optim import SGD

with read_base():
    from {MODULE} import *

optim_wrapper.update(optimizer=dict(type=SGD, lr=0.1, weight_decay=1e-4))
"""


def read(folder: Path, text: str) -> Config:
    file = folder / 'config.py'
    file.write_text(text)
    return Config.fromfile(file)


@pytest.mark.parametrize('name', [NAME, 'denoiserep/detection/mask-rcnn_swin-t-p4-w7_fpn_1x-denoiserep-12e_coco.py'])
def test_inherited_by_name_as_by_path(tmp_path, name):
    inherited = read(tmp_path, f"_base_ = 'reprefine::{name}'\n")
    assert inherited._cfg_dict == read(tmp_path, f"_base_ = '{CONFIGS / name}'\n")._cfg_dict


def test_what_other_packages_are_inherited_by_is_unchanged(tmp_path):
    pytest.importorskip('mmdet')
    inherited = read(tmp_path, "_base_ = 'mmdet::_base_/models/retinanet_r50_fpn.py'\n")
    assert inherited.model._scope_ == 'mmdet'


def test_config_imports_the_package_before_its_bases_are_read(tmp_path):
    """Under tools that import nothing of inherited."""
    for head, found in (('', "AssertionError('mmengine does not support"), ("__import__('reprefine') and ", 'Image')):
        (tmp_path / 'config.py').write_text(f"_base_ = {head}'reprefine::{NAME}'\n")
        code = (
            'from mmengine.config import Config\n'
            'try:\n    print(Config.fromfile("config.py").model.type)\n'
            'except AssertionError as error:\n    print(repr(error))'
        )
        assert subprocess.check_output([sys.executable, '-c', code], text=True, cwd=tmp_path).startswith(found)


def test_new_style_config_takes_everything(tmp_path):
    inherited, official = read(tmp_path, NEW_STYLE), Config.fromfile(DIGITS)
    assert inherited.optim_wrapper.optimizer.type is SGD
    assert inherited.optim_wrapper.paramwise_cfg == official.optim_wrapper.paramwise_cfg
    for key in official:
        assert key == 'optim_wrapper' or inherited[key] == official[key], key


def test_new_style_config_takes_what_it_names_and_reads_other_files(tmp_path):
    (tmp_path / 'own.py').write_text("model = 1\nlog_level = 'ERROR'\n")
    bases = f'    from .own import *\n    from {MODULE} import model, train_cfg as schedule\n'
    inherited = read(tmp_path, f'from mmengine.config import read_base\n\nwith read_base():\n{bases}')
    assert inherited.model == Config.fromfile(DIGITS).model
    assert inherited.schedule.max_epochs == 30
    assert set(inherited) - {'read_base'} == {'model', 'log_level', 'schedule'}


@pytest.mark.parametrize(
    ('module', 'names', 'message'),
    [
        (f'{MODULE}s', '*', r'no config is named reprefine\.configs\.baselines.*vit_tiny_digitss'),
        (MODULE, 'mode', r'has no mode; it has .*model'),
    ],
)
def test_what_does_not_exist_is_named(module, names, message):
    with pytest.raises(ImportError, match=message):
        read_base(module, {names: names})


def test_every_config_has_a_module_name_of_its_own():
    modules = [
        '.'.join(path.relative_to(CONFIGS).with_suffix('').parts).replace('-', '_') for path in CONFIGS.rglob('*.py')
    ]
    assert len(modules) > 400
    assert Counter(modules).most_common(1)[0][1] == 1
    assert all(part.isidentifier() for module in modules for part in module.split('.'))


@pytest.mark.parametrize('text', [BY_NAME, NEW_STYLE], ids=['by name', 'new style'])
def test_trains_under_both_runners(tmp_path, text):
    cfg, config = read(tmp_path, text), tmp_path / 'config.py'
    assert run_train(str(config), '--work-dir', str(tmp_path / 'inherited'), *SMALL, 'train_cfg.max_epochs=1') == 0
    cfg.merge_from_dict({key: int(value) for key, value in (option.split('=') for option in SMALL[1:])})
    cfg.merge_from_dict({'train_cfg.max_epochs': 1, 'work_dir': str(tmp_path / 'official')})
    assert load_config(str(tmp_path / 'inherited/config.py')).model == cfg.model  # what a run has written is one, too
    cfg.experiment_name = str(tmp_path)  # which the visualiser is kept by
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert 'accuracy/top1' in runner.test()
    assert (tmp_path / 'official/epoch_1.pth').is_file()
