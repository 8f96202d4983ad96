"""--cfg-options: what names nothing is refused."""

import pytest

from reprefine.engine.config_check.check import check_config
from reprefine.engine.config_check.options import merge_options
from tests.engine.config_check.test_check import RETINANET, official, parsed, refusal


@pytest.mark.parametrize(
    ('option', 'value'),
    [
        ('optim_wrapper.optimizer.lr', 0.5),
        ('optim_wrapper.optimizer.nesterov', True),  # absent, an argument of SGD
        ('optim_wrapper.clip_grad.max_norm', 1.0),
        ('train_dataloader.pin_memory', True),
        ('train_dataloader.num_batch_per_epoch', 2),
        ('default_hooks.checkpoint.max_keep_ckpts', 2),
        ('default_hooks.logger.priority', 'LOW'),
        ('resume', True),
        ('auto_scale_lr.enable', True),
        ('randomness.seed', 3),
        ('env_cfg.mp_cfg.opencv_num_threads', 1),
        ('model_wrapper_cfg.find_unused_parameters', True),
        ('custom_hooks', [dict(type='EMAHook')]),
        ('param_scheduler.1.gamma', 0.5),
        ('model.backbone.out_indices.0', 1),
        ('model.bbox_head.num_classes', 2),
        ('val_cfg.fp16', True),
    ],
)
def test_option_is_merged(option, value):
    cfg = official(RETINANET)
    merge_options(cfg, {option: value})
    check_config(cfg)
    node = cfg
    for key in option.split('.'):
        node = node[int(key)] if key.isdigit() else node[key]
    assert node == value


def test_option_changes_nothing_else():
    cfg = official(RETINANET)
    merge_options(cfg, {'val_dataloader.dataset.pipeline.0.to_float32': True})
    expected = official(RETINANET)
    expected.val_dataloader.dataset.pipeline[0].to_float32 = True
    assert cfg.to_dict() == expected.to_dict()


@pytest.mark.parametrize(
    ('option', 'meant'),
    [
        ('optim_wrapper.optimzer.lr', 'optim_wrapper.optimizer'),
        ('optim_wrapper.optimizer.lrr', 'optim_wrapper.optimizer.lr'),
        ('train_dataloder.batch_size', 'train_dataloader'),
        ('default_hooks.chekpoint.interval', 'default_hooks.checkpoint'),
        ('model.test_cfg.score_th', 'model.test_cfg.score_thr'),
        ('randomness.sed', 'randomness.seed'),
        ('auto_scale_lr.enabled', 'auto_scale_lr.enable'),
        ('param_scheduler.1.gama', 'param_scheduler.1.gamma'),
        ('data_rot', 'data_root'),
    ],
)
def test_option_that_names_nothing(option, meant):
    cfg = official(RETINANET)
    message = refusal(merge_options, cfg, {option: 1})
    assert message.startswith(f'--cfg-options {option}: ')
    assert f"did you mean '{meant}'?" in message
    assert f"'+{option}=...'" in message
    assert cfg.to_dict() == parsed(RETINANET).to_dict()
    merge_options(cfg, {f'+{option}': 1})
    assert cfg.to_dict() != parsed(RETINANET).to_dict()


@pytest.mark.parametrize(
    ('option', 'reason'),
    [
        ('param_scheduler.5.end', 'index from 0 to 1'),
        ('param_scheduler.last.end', 'index from 0 to 1'),
        ('model.backbone.depth.x', "'model.backbone.depth' is 50"),
    ],
)
def test_option_leads_nowhere(option, reason):
    assert reason in refusal(merge_options, official(RETINANET), {option: 1})
    assert reason in refusal(merge_options, official(RETINANET), {f'+{option}': 1})


def test_merged_dict():
    cfg = official(RETINANET)
    merge_options(cfg, {'model.backbone': dict(depth=18, with_cp=True)})
    assert (cfg.model.backbone.type, cfg.model.backbone.depth, cfg.model.backbone.with_cp) == ('ResNet', 18, True)
    assert "did you mean 'model.backbone.depth'?" in refusal(merge_options, cfg, {'model.backbone': dict(dpeth=18)})
    replacement = dict(_delete_=True, type='mmpretrain.MobileNetV2', out_indices=(1, 2))
    merge_options(cfg, {'model.backbone': replacement})
    assert cfg.model.backbone.to_dict() == dict(type='mmpretrain.MobileNetV2', out_indices=(1, 2))
    assert '_delete_' in replacement
    check_config(cfg)


def test_arguments_of_a_class_that_comes_later():
    cfg = official(RETINANET)
    merge_options(cfg, {'optim_wrapper.optimizer.betas': (0.9, 0.99), 'optim_wrapper.optimizer.type': 'AdamW'})
    message = refusal(check_config, cfg)  # SGD's momentum is left over
    assert message.startswith("optim_wrapper.optimizer.momentum: AdamW takes no argument 'momentum'")


def test_forced_key_is_still_checked():
    cfg = official(RETINANET)
    merge_options(cfg, {'+model.backbone.dpeth': 18})
    assert refusal(check_config, cfg).startswith('model.backbone.dpeth: ')
