"""ONNX of both forms, run by onnxruntime, and TorchScript."""

import pytest
import torch
from torch import nn

from reprefine.engine.errors import UserError
from reprefine.methods.pddr import PDConv, PDResNet
from reprefine.methods.pddr.export import export_onnx

from .toys import image, randomise

onnx = pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')


def deployed_net(mode: str) -> nn.Sequential:
    torch.manual_seed(0)
    first = PDConv(3, 16, 3, 2, 1, branches=('standard1', 'skeleton'), mode=mode, reduction=1)
    second = PDConv(16, 16, 3, 1, 2, 2, groups=2, group_num=4, mode=mode, reduction=4)
    net = randomise(nn.Sequential(first, nn.ReLU(), second)).eval()
    first.switch_to_deploy()
    second.switch_to_deploy()
    return net


@pytest.mark.parametrize('mode', ['A', 'B'])
def test_onnx_has_one_convolution_a_layer_and_any_batch_size(mode, tmp_path):
    path = tmp_path / 'net.onnx'
    assert export_onnx(deployed_net(mode), path, (9, 12)) < 1e-5  # traced with two images, compared with three
    nodes = [node.op_type for node in onnx.load(str(path)).graph.node]
    assert nodes.count('Conv') == 2
    assert 'BatchNormalization' not in nodes


def test_a_graph_that_differs_is_not_kept(tmp_path):
    with pytest.raises(UserError, match=r'onnxruntime differs by .* more than -1.0e\+00'):
        export_onnx(deployed_net('A'), tmp_path / 'net.onnx', (9, 12), tolerance=-1.0)
    assert not list(tmp_path.iterdir())


def test_kernels_of_all_branches_whatever_the_execution(tmp_path):
    net = deployed_net('B')
    for conv in (net[0], net[2]):
        conv.execution = 'kernel'
    assert export_onnx(net, tmp_path / 'net.onnx', (9, 12)) < 1e-5  # for another batch size than was traced
    assert [conv.execution for conv in (net[0], net[2])] == ['kernel', 'kernel']


def test_a_backbone(tmp_path):
    net = PDResNet(18, base_channels=8, stem_channels=8, host='mmdet', pd_cfg=dict(mode='A', group_num='auto'))
    with pytest.raises(UserError, match=r'layer1\.0\.conv1 is in training form'):
        export_onnx(net, tmp_path / 'net.onnx', (32, 32))
    net.switch_to_deploy()
    export_onnx(net, tmp_path / 'net.onnx', (32, 32))
    assert len(onnx.load(str(tmp_path / 'net.onnx')).graph.output) == 4


@torch.no_grad()
def test_an_output_that_is_not_finite_is_not_blamed_on_onnxruntime(tmp_path):
    net = deployed_net('A')
    net[2].reparam.bias[3] = float('nan')
    with pytest.raises(UserError, match="the model's own output for random images is not finite; nothing is written"):
        export_onnx(net, tmp_path / 'net.onnx', (9, 12))
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings('ignore::torch.jit.TracerWarning', 'ignore:.*torch.jit.trace:DeprecationWarning')
@pytest.mark.parametrize('size', [(9, 12), (24, 40)])  # of which eager execution mixes outputs, and kernels
@pytest.mark.parametrize('mode', ['A', 'B'])
def test_torchscript(mode, size):
    net = deployed_net(mode)
    traced = torch.jit.trace(net, image(2, 3, *size, dtype=torch.float32), check_trace=False)
    x = image(5, 3, *size, dtype=torch.float32, seed=3)
    torch.testing.assert_close(traced(x), net(x), rtol=1e-4, atol=1e-4)
    assert str(traced.inlined_graph).count('aten::_convolution') == 2
