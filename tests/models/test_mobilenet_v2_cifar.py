import pytest
import torch
from mmpretrain.models import MobileNetV2

from reprefine.models.mobilenet_v2_cifar import MobileNetV2CIFAR


@pytest.mark.parametrize('size', [32, 64])
def test_total_stride_is_eight(size):
    model = MobileNetV2CIFAR(out_indices=(0, 1, 2, 3, 4, 5, 6, 7))
    model.eval()  # the host's returns None
    outputs = model(torch.zeros(1, 3, size, size))
    assert [output.shape[1] for output in outputs] == [16, 24, 32, 64, 96, 160, 320, 1280]
    assert [size // output.shape[2] for output in outputs] == [1, 2, 2, 4, 4, 8, 8, 8]


def test_parameters_are_those_of_mmpretrain():
    ours, hosts = MobileNetV2CIFAR().state_dict(), MobileNetV2().state_dict()
    assert {key: value.shape for key, value in ours.items()} == {key: value.shape for key, value in hosts.items()}


def test_all_stages_can_be_frozen():
    model = MobileNetV2CIFAR(frozen_stages=8, norm_eval=True)
    model.train()
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not any(module.training for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d))
    partly = MobileNetV2CIFAR(frozen_stages=7)
    partly.train()
    assert {name.split('.')[0] for name, p in partly.named_parameters() if p.requires_grad} == {'conv2'}
