"""Ablations and ordinary distillation beside RepFusion: each trains, and changes what its name says."""

import re

import pytest

from reprefine.engine.cli.launch import load_config
from tests.configs.brief import ROOT
from tests.configs.walk import configs_below, train_and_test

ABLATIONS = configs_below('repfusion/ablations')
START = ROOT / 'configs/repfusion/distill/resnet18-cifar_repfusion-rl-hint_200e_cifar10.py'


@pytest.mark.parametrize('path', configs_below('repfusion/ablations', 'repfusion/kd'), ids=lambda path: path.stem)
def test_trains_and_tests(path, tmp_path, toy_folder):
    train_and_test(path, tmp_path, toy_folder)


@pytest.mark.parametrize('path', ABLATIONS, ids=lambda path: path.stem)
def test_changes_what_its_name_says_alone(path):
    cfg, base = load_config(str(path)), load_config(str(START))
    name, value = re.match(
        r'([a-z-]+?)([0-9p]*)$', path.name.split('_')[1].split('-', 1)[1].removesuffix('-hint')
    ).groups()
    number = float(value.replace('p', '.')) if value else None
    source, hooks = cfg.model.pop('timestep_source', None), [hook.type for hook in cfg.custom_hooks]
    last = cfg.custom_hooks[-1]
    if name == 'rl-noise':
        assert cfg.model.teacher.pop('noise_mode') == 'forward'
        assert cfg.custom_hooks == base.custom_hooks
    elif name == 'rl-entropy':
        assert (last.pop('entropy_weight'), last.pop('entropy_epochs')) == (number, None)
        assert last == base.custom_hooks[-1]
    elif name == 'rl-feature':
        assert cfg.model.pop('head') == dict(type='LinearClsHead', num_classes=10, in_channels=512)
        assert last == base.custom_hooks[-1] | dict(reward='neg_feature_mse', head=None)
    elif name == 'rl-info-uniform':
        changed = dict(reward='neg_info_nce', head=None, baseline='batch_mean', uniform_prob=number)
        assert last == base.custom_hooks[-1] | changed
    elif name == 'decay':
        assert (last.type, last.end) == ('reprefine.MaxTimestepDecayHook', number)
        assert source == dict(type='reprefine.UniformTimesteps')
    else:
        kind, key = ('UniformTimesteps', 'max_timestep') if name == 'uniform' else ('FixedTimesteps', 'timestep')
        assert source == {'type': f'reprefine.{kind}', key: number}
        assert hooks == [hook.type for hook in base.custom_hooks[:-1]]
    assert cfg.model == base.model
    assert cfg.train_dataloader == base.train_dataloader


def test_weights_of_ordinary_distillation():
    for data, attention in (('cifar10', 1.0), ('tiny-imagenet', 10.0)):
        terms = {}
        for kind in ('logits', 'soft-target', 'hint', 'at', 'rkd'):
            cfg = load_config(str(ROOT / f'configs/repfusion/kd/resnet18-cifar_kd-{kind}-wrn-28-10_200e_{data}.py'))
            terms[kind] = cfg.model.kd
            assert 'wrn-28-10-cifar_200e' in cfg.model.teacher.pretrained
        assert terms['at'].loss_weight == attention
        assert terms['rkd'].loss_weight == 0.1
        assert terms['hint'].get('loss_weight', 1.0) == 1.0
