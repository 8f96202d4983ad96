"""Configs of linear evaluation of distilled transformers: their weights at their own size, and nothing else changes."""

import pytest
import torch

from reprefine.engine.build import build_model
from reprefine.engine.cli.launch import default_work_dir, load_config
from reprefine.registry import MODELS
from tests.configs.brief import ROOT
from tests.configs.walk import configs_below, train_and_test
from tests.methods.dvt.configs.variables import without_variables

CONFIGS = configs_below('dvt/distilled')


def baseline_of(path):
    return ROOT / 'configs/baselines' / path.parent.name / path.name.replace('-dvt-distilled', '')


def distillation_of(path):
    return ROOT / f'configs/dvt/distill/{path.stem.partition("-dvt")[0]}_distill_8xb64-5e_in1k.py'


@pytest.mark.parametrize('path', configs_below('dvt/distilled/segmentation'), ids=lambda path: path.stem)
def test_trains_and_tests(path, tmp_path, toy_folder):
    train_and_test(path, tmp_path, toy_folder)


def test_every_backbone_meets_every_benchmark():
    assert len({path.stem.partition('-dvt')[0] for path in CONFIGS}) == 7
    assert len(CONFIGS) == 21


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_differs_from_its_twin_by_the_weights_and_their_size(path):
    ours, baseline = (load_config(str(p)) for p in (path, baseline_of(path)))
    distillation = load_config(str(distillation_of(path)))
    backbone = ours.model.backbone
    trained = f'{default_work_dir(str(distillation_of(path)))}/epoch_{distillation.train_cfg.max_epochs}.pth'
    assert backbone.pop('checkpoint') == trained
    assert backbone.pop('img_size') == distillation.model.backbone.img_size
    assert backbone.pop('revise_keys')
    assert without_variables(ours) == without_variables(baseline)


def brief(path):
    """Return the config with one block and no weights to fetch."""
    cfg = load_config(str(path))
    cfg.model.backbone.update(pretrained=False, model_args=dict(depth=1))
    return cfg


@pytest.mark.parametrize('name', ['dino', 'deit3', 'eva02'])
def test_the_evaluated_transformer_is_the_student_and_its_table_was_not_resampled(name, tmp_path):
    path = next(path for path in CONFIGS if path.stem.startswith(f'vit-b-{name}-dvt') and 'voc12' in path.stem)
    cfg = brief(distillation_of(path))
    cfg.model.neck.checkpoint = None
    model = build_model(cfg)
    torch.nn.init.normal_(model.backbone.vit.pos_embed)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'epoch_5.pth')
    backbone = MODELS.build(brief(path).model.backbone | dict(checkpoint=str(tmp_path / 'epoch_5.pth')))
    backbone.init_weights()
    assert torch.equal(backbone.vit.pos_embed, model.backbone.vit.pos_embed)
    image = torch.randn(1, 3, 512, 512, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(backbone(image)[-1], model.backbone.eval()(image)[-1])
