"""The config check on official configs of the four OpenMMLab libraries."""

import functools
import inspect
import logging
from pathlib import Path

import mmengine
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from reprefine.engine.config_check.check import check_config
from reprefine.engine.config_check.keys import RUNNER_KEYS
from reprefine.engine.config_check.signatures import accepted_arguments
from reprefine.engine.errors import UserError

PACKAGES = Path(mmengine.__file__).parents[1]
RETINANET = 'mmdet/retinanet/retinanet_r50_fpn_1x_coco.py'
MASK_RCNN = 'mmdet/mask_rcnn/mask-rcnn_r50_fpn_ms-poly-3x_coco.py'
RESNET = 'mmpretrain/resnet/resnet50_8xb32_in1k.py'
BISENET = 'mmseg/bisenetv1/bisenetv1_r18-d32_4xb4-160k_cityscapes-1024x1024.py'
SEGFORMER = 'mmseg/segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py'
POSE = 'mmpose/body_2d_keypoint/topdown_heatmap/coco/td-hm_res50_8xb64-210e_coco-256x192.py'
WFLW = 'mmpose/face_2d_keypoint/topdown_heatmap/wflw/td-hm_hrnetv2-w18_8xb64-60e_wflw-256x256.py'

# The families that our configs inherit.
INHERITED = {
    'mmpretrain': ('resnet', 'swin_transformer_v2', 'vision_transformer', 'mocov2', 'densecl', 'hrnet', 'mobilenet_v2'),
    'mmdet': ('mask_rcnn', 'retinanet', 'faster_rcnn', 'swin'),
    'mmseg': ('fcn', 'segformer', 'swin', 'bisenetv1', 'hrnet', 'pspnet', 'upernet'),
    'mmpose': ('body_2d_keypoint/topdown_heatmap/coco/*res50*', 'face_2d_keypoint/topdown_heatmap/wflw'),
}
# Invalid upstream: two miss a variable of their base, one names a batch augment that was removed.
BROKEN_UPSTREAM = {
    'swinv2-base-w12_8xb128_in21k-192px.py',
    'swinv2-large-w12_8xb128_in21k-192px.py',
    'resnet50_8xb32-cutmix_in1k.py',
}
STRIDE = 15


@functools.cache
def parsed(path: str) -> Config:
    package, name = path.split('/', 1)
    return Config.fromfile(PACKAGES / package / '.mim/configs' / name)


def official(path: str) -> Config:
    return Config(parsed(path).to_dict())


def put(cfg: Config, path: str, value) -> None:
    *way, last = path.split('.')
    node = cfg
    for key in way:
        node = node[int(key)] if isinstance(node, list) else node[key]
    node[int(last) if isinstance(node, list) else last] = value


def refusal(action, *args) -> str:
    with pytest.raises(UserError) as caught:
        action(*args)
    message = str(caught.value)
    assert '\n' not in message
    return message


def inherited_configs() -> list[Path]:
    """Every fifteenth config of each family: parsing all of them takes longer than a test file may."""
    files = []
    for package, families in INHERITED.items():
        for family in families:
            pattern = f'{family}.py' if family.endswith('*') else f'{family}/*.py'
            found = sorted((PACKAGES / package / '.mim/configs').glob(pattern))
            assert found, family
            files += [file for file in found if file.name not in BROKEN_UPSTREAM][::STRIDE]
    return files


def test_official_configs_pass():
    complaints = {}
    for file in inherited_configs():
        try:
            check_config(Config.fromfile(file))
        except UserError as error:
            complaints[file.name] = str(error)
    assert complaints == {}


def test_check_leaves_config_and_scope_alone():
    cfg = official(RETINANET)
    DefaultScope.get_instance('test_check_leaves', scope_name='mmseg')
    before = cfg.to_dict()
    check_config(cfg)  # in its own scope, mmdet
    assert cfg.to_dict() == before
    assert DefaultScope.get_current_instance().scope_name == 'mmseg'


@pytest.mark.parametrize(
    ('config', 'key', 'meant'),
    [
        (RESNET, 'train_dataloder', 'train_dataloader'),
        (RETINANET, 'optim_warpper', 'optim_wrapper'),
        (BISENET, 'default_hook', 'default_hooks'),
        (SEGFORMER, 'modle', 'model'),
        (POSE, 'load_form', 'load_from'),
        (WFLW, 'param_schedulers', 'param_scheduler'),
    ],
)
def test_top_level_near_miss(config, key, meant):
    cfg = official(config)
    cfg[key] = dict()
    message = refusal(check_config, cfg)
    assert message.startswith(f'{key}:')
    assert f"did you mean '{meant}'?" in message


@pytest.mark.parametrize(
    'key', ['crop_size', 'dataset_type', 'val_pipeline', 'norm_cfg', 'val_evaluator_lvis', 'codec']
)
def test_free_variables_stay_allowed(key):
    cfg = official(RETINANET)
    cfg[key] = dict()
    check_config(cfg)


@pytest.mark.parametrize(
    ('config', 'path', 'name', 'meant'),
    [
        (RESNET, 'model.backbone.type', 'ResNte', 'ResNet'),
        (RESNET, 'train_dataloader.dataset.type', 'ImageNte', 'ImageNet'),
        (RESNET, 'train_dataloader.sampler.type', 'DefaultSampeler', 'DefaultSampler'),
        (RESNET, 'val_evaluator.type', 'Accuracyy', 'Accuracy'),
        (RESNET, 'optim_wrapper.optimizer.type', 'SDG', 'SGD'),
        (RESNET, 'param_scheduler.type', 'MultiStepLr', 'MultiStepLR'),
        (RESNET, 'default_hooks.checkpoint.type', 'ChekpointHook', 'CheckpointHook'),
        (RETINANET, 'model.bbox_head.anchor_generator.type', 'AnchorGenerater', 'AnchorGenerator'),
        (RETINANET, 'model.train_cfg.assigner.type', 'MaxIoUAssginer', 'MaxIoUAssigner'),
        (RETINANET, 'model.bbox_head.loss_cls.type', 'FocalLos', 'FocalLoss'),
        (RETINANET, 'train_dataloader.batch_sampler.type', 'AspectRatioBatchSample', 'AspectRatioBatchSampler'),
        (RETINANET, 'model.backbone.init_cfg.type', 'Pretraind', 'Pretrained'),
        (RETINANET, 'train_cfg.type', 'EpochBasedTrainLop', 'EpochBasedTrainLoop'),
        (MASK_RCNN, 'train_dataloader.dataset.dataset.pipeline.2.type', 'RandomResiz', 'RandomResize'),
        (BISENET, 'model.data_preprocessor.type', 'SegDataPreProcesor', 'SegDataPreProcessor'),
        (BISENET, 'model.auxiliary_head.0.type', 'FCNHaed', 'FCNHead'),
        (BISENET, 'log_processor.type', 'LogProcesor', 'LogProcessor'),
        (SEGFORMER, 'visualizer.vis_backends.0.type', 'LocalVisBackends', 'LocalVisBackend'),
        (POSE, 'train_dataloader.dataset.pipeline.6.encoder.type', 'MSRAHeatmaps', 'MSRAHeatmap'),
        (POSE, 'model.head.decoder.type', 'MSRAHeatmaps', 'MSRAHeatmap'),
    ],
)
def test_unknown_type(config, path, name, meant):
    cfg = official(config)
    put(cfg, path, name)
    message = refusal(check_config, cfg)
    assert message.startswith(f'{path}: ')
    assert f"registered as '{name}'; did you mean '{meant}'?" in message


@pytest.mark.parametrize(
    ('name', 'meant'),
    [
        ('mmpretrain.MobileNetV22', 'mmpretrain.MobileNetV2'),
        ('mmdte.RetinaNet', 'mmdet.RetinaNet'),
        ('VisionTransformer', 'mmpretrain.VisionTransformer'),
        ('mmdet.models.NoSuchThing', None),
    ],
)
def test_unknown_type_across_scopes(name, meant):
    import mmpretrain.models  # noqa: F401

    cfg = official(RETINANET)
    cfg.model.backbone = dict(type=name)
    message = refusal(check_config, cfg)
    assert message.startswith('model.backbone.type: ')
    assert meant is None or f"did you mean '{meant}'?" in message


def test_optim_wrapper_constructor_is_looked_up():
    cfg = official(RETINANET)
    cfg.optim_wrapper.constructor = 'LearningRateDecayOptimizerConstructer'
    message = refusal(check_config, cfg)
    assert message.startswith('optim_wrapper.constructor: ')
    assert "did you mean 'LearningRateDecayOptimizerConstructor'?" in message


@pytest.mark.parametrize(
    ('config', 'path', 'meant'),
    [
        (RESNET, 'model.backbone.dpeth', 'depth'),
        (RESNET, 'optim_wrapper.optimizer.lrr', 'lr'),
        (RESNET, 'optim_wrapper.clip_gard', 'clip_grad'),
        (RESNET, 'param_scheduler.milestone', 'milestones'),
        (RESNET, 'train_dataloader.batchsize', 'batch_size'),
        (RESNET, 'train_dataloader.sampler.shufle', 'shuffle'),
        (RESNET, 'train_dataloader.dataset.data_rot', 'data_root'),
        (RESNET, 'train_dataloader.dataset.pipeline.1.scal', 'scale'),
        (RESNET, 'val_evaluator.topkk', 'topk'),
        (RESNET, 'randomness.sed', 'seed'),
        (RESNET, 'train_cfg.max_epoch', 'max_epochs'),
        (RETINANET, 'val_cfg.fp_16', 'fp16'),
        (RETINANET, 'model.bbox_head.num_class', 'num_classes'),  # through RetinaHead's **kwargs to AnchorHead
        (RETINANET, 'model.bbox_head.loss_cls.gama', 'gamma'),
        (RETINANET, 'model.backbone.init_cfg.checkpont', 'checkpoint'),
        (RETINANET, 'default_hooks.checkpoint.max_keep_ckpt', 'max_keep_ckpts'),
        (RETINANET, 'val_evaluator.metric_item', 'metric_items'),
        (BISENET, 'model.decode_head.norm_cfg.require_grad', 'requires_grad'),
        (BISENET, 'model.decode_head.num_classses', 'num_classes'),
        (SEGFORMER, 'visualizer.vis_backend', 'vis_backends'),
        (POSE, 'model.head.decoder.sigmaa', 'sigma'),
    ],
)
def test_wrong_argument(config, path, meant):
    cfg = official(config)
    put(cfg, path, 1)
    message = refusal(check_config, cfg)
    assert message.startswith(f'{path}: ')
    assert f"did you mean '{meant}'?" in message


def test_scope_key_switches_the_registry():
    cfg = official(RETINANET)
    cfg.model.backbone = dict(_scope_='mmpretrain', type='VisionTransformer', arch='b')
    check_config(cfg)
    del cfg.model.backbone['_scope_']
    assert 'mmpretrain.VisionTransformer' in refusal(check_config, cfg)


def test_several_optimizers():
    part = dict(optimizer=dict(type='SGD', lr=0.1))
    cfg = Config(dict(default_scope='mmengine', optim_wrapper=dict(generator=part, discriminator=part)))
    check_config(cfg)
    cfg.optim_wrapper.discriminator.optimizer.lrr = 1
    assert refusal(check_config, cfg).startswith('optim_wrapper.discriminator.optimizer.lrr: ')


def test_classes_instead_of_names():
    cfg = Config(dict(model=dict(type=torch.nn.Linear, in_feature=3)))
    assert "model.in_feature: Linear takes no argument 'in_feature'" in refusal(check_config, cfg)
    cfg.model = dict(type=torch.nn.Linear, in_features=3, out_features=2)
    check_config(cfg)


class Base:
    def __init__(self, size, fixed=0):
        pass


class Forwarding(Base):
    def __init__(self, own, **kwargs):
        kwargs.setdefault('size', 3)
        self.popped = kwargs.pop('popped', None)
        super().__init__(fixed=1, **kwargs)


class Defaulting(Base):
    def __init__(self, **kwargs):
        kwargs = {'size': 2, **kwargs}
        super().__init__(**kwargs)


class Keeping(Base):
    def __init__(self, own, **kwargs):
        self.options = kwargs


class Dropping(Base):
    def __init__(self, own, **kwargs):
        super().__init__(3)


class Choosing(Base):
    def __new__(cls, *args, **kwargs):
        return super().__new__(Forwarding)


def function(a, *, b=1):
    pass


class Calling(Base):
    def __init__(self, own, **kwargs):
        super().__init__(3)
        function(own, **kwargs)


class Building(Base):
    def __init__(self, own, **kwargs):
        super().__init__(3)
        self.part = Forwarding(own, **kwargs)


@pytest.mark.parametrize(
    ('target', 'expected'),
    [
        (Base, {'size', 'fixed'}),
        (Forwarding, {'own', 'size', 'popped'}),  # ``fixed`` would be given twice
        (Defaulting, {'size', 'fixed'}),
        (Keeping, None),  # what the options are for cannot be known
        (Dropping, {'own'}),
        (Calling, {'own', 'b'}),
        (Building, {'own', 'size', 'popped'}),
        (Choosing, None),  # another class than this one may be built
        (function, {'a', 'b'}),
        (functools.partial(function, 1), {'b'}),
        (torch.optim.SGD, {'params', 'lr', 'momentum', 'dampening', 'weight_decay', 'nesterov'}),
    ],
)
def test_accepted_arguments(target, expected):
    found = accepted_arguments(target)
    if target is torch.optim.SGD:
        assert expected <= found
        assert 'lrr' not in found
    else:
        assert found == expected


def test_no_warning_is_logged(caplog):
    with caplog.at_level(logging.WARNING):
        check_config(official(POSE))
    assert not caplog.records


def test_types_of_new_style_configs_are_classes():
    from mmengine.dataset import InfiniteSampler
    from mmengine.runner import EpochBasedTrainLoop
    from mmpretrain.datasets import RandAugment

    cfg = official(RESNET)
    policies = [dict(type='Rotate', magnitude_key='angle', magnitude_range=(0, 30))]
    augment = dict(type=RandAugment, policies=policies, num_policies=1, magnitude_level=9)
    cfg.train_dataloader.dataset.pipeline.insert(1, augment)
    cfg.train_cfg.pop('by_epoch')
    cfg.train_cfg.type = EpochBasedTrainLoop
    check_config(cfg)
    cfg.train_dataloader.sampler.type = InfiniteSampler
    with pytest.raises(UserError, match='train_dataloader.sampler: InfiniteSampler never ends'):
        check_config(cfg)


def test_the_top_level_keys_are_those_of_the_runner():
    ours = {'finite_check', 'min_load_ratio', 'checkpoint_key', 'revise_keys', 'max_corrupt_samples', 'reset_schedule'}
    ours |= {'load_from_command'}
    read = {'model_wrapper_cfg', 'find_unused_parameters', 'sync_bn', 'compile', 'runner_type', 'custom_imports'}
    assert set(inspect.signature(Runner.__init__).parameters) - {'self', 'cfg'} == RUNNER_KEYS - ours - read
