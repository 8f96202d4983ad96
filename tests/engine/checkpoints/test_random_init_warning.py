"""A module that requires pretrained weights and starts from random ones is named once in the log."""

import logging

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.model import BaseModule
from torch import nn

from reprefine.engine.checkpoints.random_init_warning import record_loaded_modules, warn_random_init
from reprefine.methods.pddr import PDResNet
from reprefine.models.timm_vit import TimmViT
from tests.helpers.run import DENOISED, SMALL, run_train, train_digits


class Refined(BaseModule):
    requires_pretrained = 'it refines features'

    def __init__(self, init_cfg=None):
        super().__init__(init_cfg)
        self.layer = nn.Sequential(nn.Linear(2, 2))


@pytest.fixture
def records():
    lines = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: lines.append(record.getMessage())
    logger = MMLogger.get_instance('untrained')
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)


def test_the_warning_names_the_reason_and_the_remedy(records):
    warn_random_init(nn.ModuleDict(dict(part=Refined(), other=nn.Linear(1, 1))), set())
    (line,) = records
    assert line.startswith('Refined (part) starts from random weights, but it refines features: set load_from')


@pytest.mark.parametrize(('names', 'warns'), [(['layer.0.weight'], 0), (['other'], 1), ([], 1)])
def test_any_loaded_child_counts_but_keys_that_match_nothing_do_not(names, warns, records):
    model = nn.ModuleDict(dict(part=Refined(), other=nn.Linear(2, 2)))
    with record_loaded_modules(model) as loaded:
        model['part'].load_state_dict({name: torch.zeros(2, 2) for name in names}, strict=False)
        model['other'].load_state_dict(nn.Linear(2, 2).state_dict())
    warn_random_init(model, loaded)
    assert len(records) == warns
    model['part'].load_state_dict(Refined().state_dict())  # no longer recorded
    assert loaded <= set(model.modules()) - {model['part'].layer[0]} or names == ['layer.0.weight']


def test_an_init_cfg_counts(tmp_path, records):
    torch.save(Refined().state_dict(), tmp_path / 'a.pth')
    model = Refined(dict(type='Pretrained', checkpoint=str(tmp_path / 'a.pth')))
    with record_loaded_modules(model) as loaded:
        model.init_weights()
    warn_random_init(model, loaded)
    assert not records


@pytest.mark.parametrize(('cfg', 'warns'), [(dict(backbone=dict(pretrained=True)), 0), (dict(parts=[dict(x=1)]), 1)])
def test_a_constructor_that_downloads_weights_is_known_by_the_config(cfg, warns, records):
    warn_random_init(Refined(), set(), cfg)
    assert len(records) == warns


@pytest.mark.parametrize('norm_eval', [True, False])
def test_fixed_statistics_of_a_pd_resnet_require_pretrained_weights(norm_eval, records):
    warn_random_init(PDResNet(18, pd_cfg=dict(mode='A'), norm_eval=norm_eval), set())
    assert [('norm_eval keeps the running statistics' in line) for line in records] == [True] * norm_eval


@pytest.mark.parametrize(('frozen', 'starts', 'warns'), [(True, False, 1), (True, True, 0), (False, False, 0)])
def test_a_frozen_transformer_requires_pretrained_weights(frozen, starts, warns, tmp_path, records):
    small = dict(img_size=32, model_args=dict(depth=1, embed_dim=48, num_heads=3))
    if starts:
        torch.save(TimmViT('vit_tiny_patch16_224', **small).vit.state_dict(), tmp_path / 'vit.pth')
        small['checkpoint'] = str(tmp_path / 'vit.pth')
    model = TimmViT('vit_tiny_patch16_224', frozen=frozen, **small)
    with record_loaded_modules(model) as loaded:
        model.init_weights()
    warn_random_init(model, loaded)
    assert len(records) == warns


def test_training_warns_unless_it_loads_or_resumes(tmp_path):
    assert train_digits(tmp_path / 'baseline') == 0
    runs = {
        'random': ['--cfg-options', 'load_from=None'],
        'loaded': ['--cfg-options', f'load_from={tmp_path / "baseline/epoch_2.pth"}'],
        'resumed': ['--resume', str(tmp_path / 'random/epoch_2.pth')],
    }
    for name, more in runs.items():
        last = 'train_cfg.max_epochs=3' if name == 'resumed' else 'train_cfg.max_epochs=2'
        argv = ('--work-dir', str(tmp_path / name), *more, *SMALL, last)
        assert run_train(DENOISED, *argv) == 0
        log = next(tmp_path.glob(f'{name}/*/*.log')).read_text()
        assert log.count('DenoiseRepImageClassifier starts from random weights, but its noise predictors') == (
            name == 'random'
        )
    log = next(tmp_path.glob('baseline/*/*.log')).read_text()
    assert 'random weights' not in log
