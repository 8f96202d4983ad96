"""Small networks with disentangled convolutions, as parts of other methods' models, and classifiers over them."""

import copy
from pathlib import Path
from typing import Any

import torch
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn

from reprefine.deploy import relative_difference, switch_to_deploy
from reprefine.engine.runner import Runner
from reprefine.methods.pddr.layers.lookup import pd_convs
from tests.methods.feature_transform.toys import loader

PD = dict(group_num='auto', reduction=1)
KINDS = ('PDResNet', 'PDConverted')
MODES = ('A', 'B')


def refined(backbone: dict, kind: str, mode: str, **options: Any) -> dict:
    """Return the config of a ResNet with its residual blocks disentangled.

    Args:
        backbone: Config of the baseline's backbone.
        kind: One of :data:`KINDS`.
        mode: ``'A'`` or ``'B'``.
        **options: Further options of the conversion, such as ``deploy``.
    """
    if kind == 'PDResNet':
        deploy = dict(deploy=options.pop('deploy', False))
        return backbone | dict(type='reprefine.PDResNet', pd_cfg=PD | dict(mode=mode) | options) | deploy
    pd = PD | dict(mode=mode, rule=r'layer\d.*conv\d') | options
    return backbone | dict(type='reprefine.PDConverted', base_type=backbone['type'], pd=pd)


def branch_by_branch(model: nn.Module) -> nn.Module:
    """Set a model to evaluation mode with every branch and norm computed separately, and return it."""
    for conv in pd_convs(model).values():
        conv.compute = 'branches'
    model.eval()  # which returns None for ResNets of mmpretrain
    return model


def deployed_copy(model: nn.Module) -> nn.Module:
    """Return a deployed copy, in evaluation mode."""
    model = switch_to_deploy(copy.deepcopy(model))
    model.eval()
    assert all(conv.deploy for conv in pd_convs(model).values())
    return model


def assert_trained(model: nn.Module) -> None:
    """Require that every running statistic of every branch has changed."""
    for conv in pd_convs(model).values():
        for _, part in conv.conv_norms():
            assert (part.bn.running_var != 1).all()
            assert part.bn.running_mean.any()


def assert_close(outputs: Any, expected: Any) -> None:
    """Require equality to 1e-4 of the largest value, of tensors or sequences of them."""
    pairs = [(outputs, expected)] if torch.is_tensor(expected) else list(zip(outputs, expected, strict=True))
    for output, reference in pairs:
        assert reference.abs().max() > 0
        assert relative_difference(output, reference) < 1e-4


def images(number: int = 3, size: int = 32) -> Tensor:
    return torch.randn(number, 3, size, size, generator=torch.Generator().manual_seed(7))


def classifier(backbone: dict, checkpoint: Path, channels: int = 32) -> nn.Module:
    """Return a classifier whose backbone is initialised from a checkpoint by its config."""
    start = dict(type='Pretrained', checkpoint=str(checkpoint), prefix='backbone.')
    config = dict(
        type='ImageClassifier',
        backbone=backbone | dict(init_cfg=start),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=3, in_channels=channels),
    )
    torch.manual_seed(5)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(ConfigDict(config))
        model.init_weights()
    model.eval()
    return model


def accuracy_of(model: nn.Module, folder: Path, name: str) -> float:
    """Test a classifier through the Runner and return its accuracy in per cent."""
    runner = Runner(
        model,
        str(folder / name),
        test_dataloader=loader(9, batch=3, two_views=False),
        test_cfg=dict(),
        test_evaluator=dict(type='Accuracy'),
        default_scope='mmpretrain',
        experiment_name=name,
        visualizer=dict(type='Visualizer', name=name),
        log_level='WARNING',
    )
    return runner.test()['accuracy/top1']
