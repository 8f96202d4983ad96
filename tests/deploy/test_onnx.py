"""ONNX of models of each kind, run by onnxruntime."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reprefine.deploy.onnx import export_onnx
from reprefine.engine.build import build_model
from reprefine.engine.cli.launch import load_config
from reprefine.engine.errors import UserError
from reprefine.methods.pddr import PDConv, PDResNet
from tests.helpers.tiny_hosts import CONFIGS, write_config
from tests.methods.pddr.toys import randomise

onnx = pytest.importorskip('onnx')
onnxruntime = pytest.importorskip('onnxruntime')

TWO_STAGE = """
_base_ = 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'
model = dict(
    backbone=dict(depth=18, base_channels=8, stem_channels=8, init_cfg=None),
    neck=dict(in_channels=[8, 16, 32, 64], out_channels=16),
    rpn_head=dict(in_channels=16, feat_channels=16),
    roi_head=dict(bbox_roi_extractor=dict(out_channels=16), bbox_head=dict(in_channels=16, fc_out_channels=16)),
)
"""
MOCO = """
default_scope = 'mmpretrain'
model = dict(
    type='reprefine.MoCoFT', queue_len=8, feat_dim=8, momentum=0.001,
    data_preprocessor=dict(type='SelfSupDataPreprocessor', mean=[127.5] * 3, std=[127.5] * 3),
    backbone=dict(type='ResNet', depth=18, base_channels=8, stem_channels=8),
    neck=dict(
        type='MoCoV2Neck', in_channels=64, hid_channels=8, out_channels=8, with_avg_pool=True),
    head=dict(type='ContrastiveHead', loss=dict(type='CrossEntropyLoss'), temperature=0.2),
)
"""
HEAD = 'raw outputs of its head'
# What is exported, and the shapes of the outputs for two images of 64x96.
KINDS = {
    'mmpretrain': ('the whole model', [(2, 2)]),
    'mmseg': ('the whole model, class scores at the size of the images', [(2, 19, 64, 96)]),
    'mmpose': (f'the whole model, {HEAD} (heatmaps', [(2, 17, 16, 24)]),
    'mmdet': (f'the whole model, {HEAD} on every level (boxes not decoded', [(2, 18, 8, 12), (2, 18, 4, 6)]),
    'two-stage': ('backbone and neck', [(2, 16, 16, 24), (2, 16, 8, 12)]),
    'contrastive': ('the backbone', [(2, 64, 2, 3)]),
}


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('dynamic', [False, True])
def test_every_kind_of_model(kind, dynamic, tmp_path):
    text = (CONFIGS | {'two-stage': TWO_STAGE, 'contrastive': MOCO})[kind]
    torch.manual_seed(0)
    model = uneven(build_model(load_config(write_config(tmp_path, text))))
    exported = export_onnx(model, tmp_path / 'net.onnx', (3, 64, 96), dynamic)
    part, shapes = KINDS[kind]
    assert exported.part.startswith(part)
    assert exported.shape == ('any number of images of ' + ('any size' if dynamic else '3x64x96'))
    assert exported.difference < 1e-4
    assert model.training  # the model itself is as it was
    outputs = run(tmp_path / 'net.onnx', 2, 64, 96)
    assert [output.shape for output in outputs][: len(shapes)] == shapes
    if dynamic:
        assert run(tmp_path / 'net.onnx', 3, 128, 64)[0].shape[0] == 3
    else:
        with pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument):
            run(tmp_path / 'net.onnx', 2, 128, 96)


def uneven(model: nn.Module) -> nn.Module:
    """Give every norm statistics of its own."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.normal_(module.running_mean, std=0.1)
    return model


def run(path, *shape: int) -> list:
    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    return session.run(None, {'images': torch.randn(shape[0], 3, *shape[1:]).numpy()})


class Fixed(nn.Module):
    """Knows one number of images at the time of its export."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3)) * len(images.tolist() if len(images) > 1 else [0])


def test_a_number_of_images_that_the_graph_holds_fast(tmp_path):
    exported = export_onnx(Fixed(), tmp_path / 'net.onnx', (3, 8, 8))
    assert exported.shape == 'one image of 3x8x8'
    assert run(tmp_path / 'net.onnx', 1, 8, 8)[0].shape == (1, 3)


class Sized(nn.Module):
    """Knows one size."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3 * 64, 2)

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(images.flatten(1))


def test_sizes_that_the_model_does_not_take(tmp_path):
    export_onnx(Sized(), tmp_path / 'net.onnx', (3, 8, 8))
    (tmp_path / 'net.onnx').unlink()
    with pytest.raises(UserError, match='takes images of any size: leave --dynamic out; nothing is written'):
        export_onnx(Sized(), tmp_path / 'net.onnx', (3, 8, 8), dynamic=True)
    with pytest.raises(UserError, match=r'cannot be exported \(RuntimeError: mat1 and mat2.*\); nothing is written'):
        export_onnx(Sized(), tmp_path / 'net.onnx', (3, 8, 9))
    assert not list(tmp_path.iterdir())


class Resampled(nn.Module):
    """Resamples a position table as timm does."""

    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.randn(1, 3, 5, 6, generator=torch.Generator().manual_seed(0)))

    def forward(self, images: Tensor) -> Tensor:
        size = [side // 2 for side in images.shape[-2:]]
        return F.avg_pool2d(images, 2) + F.interpolate(self.table, size, mode='bicubic', antialias=True)


@pytest.mark.parametrize('size', [(6, 8), (16, 22)])  # smaller than the table, and larger
@pytest.mark.parametrize('dynamic', [False, True])
def test_antialiased_position_tables(size, dynamic, tmp_path):
    assert export_onnx(Resampled(), tmp_path / 'net.onnx', (3, *size), dynamic).difference < 1e-5


@pytest.mark.parametrize('size', [1, 2, 3, (5, 7)])
def test_adaptive_pooling(size, tmp_path):
    pool = nn.AdaptiveAvgPool2d(size)
    assert export_onnx(pool, tmp_path / 'net.onnx', (3, 8, 10)).shape == 'any number of images of 3x8x10'
    (tmp_path / 'net.onnx').unlink()
    if size == 1:
        assert export_onnx(pool, tmp_path / 'net.onnx', (3, 8, 10), dynamic=True).difference < 1e-5
    else:
        with pytest.raises(UserError, match='needs a feature map of fixed size.*leave --dynamic out'):
            export_onnx(pool, tmp_path / 'net.onnx', (3, 8, 10), dynamic=True)


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
    assert export_onnx(deployed_net(mode), path, (3, 9, 12)).difference < 1e-5
    nodes = [node.op_type for node in onnx.load(str(path)).graph.node]
    assert nodes.count('Conv') == 2
    assert 'BatchNormalization' not in nodes


def test_kernels_of_all_branches_whatever_the_execution(tmp_path):
    net = deployed_net('B')
    for conv in (net[0], net[2]):
        conv.execution = 'kernel'
    assert export_onnx(net, tmp_path / 'net.onnx', (3, 9, 12)).shape == 'any number of images of 3x9x12'
    assert [conv.execution for conv in (net[0], net[2])] == ['kernel', 'kernel']


def test_a_graph_that_differs_is_not_kept(tmp_path):
    with pytest.raises(UserError, match=r'onnxruntime differs by .* more than -1.0e\+00; nothing is written'):
        export_onnx(deployed_net('A'), tmp_path / 'net.onnx', (3, 9, 12), tolerance=-1.0)
    assert not list(tmp_path.iterdir())


def test_a_backbone(tmp_path):
    net = PDResNet(18, base_channels=8, stem_channels=8, host='mmdet', pd_cfg=dict(mode='A', group_num='auto'))
    with pytest.raises(UserError, match=r'layer1\.0\.conv1 is in training form'):
        export_onnx(net, tmp_path / 'net.onnx', (3, 32, 32))
    net.switch_to_deploy()
    export_onnx(net, tmp_path / 'net.onnx', (3, 32, 32))
    assert len(onnx.load(str(tmp_path / 'net.onnx')).graph.output) == 4


@torch.no_grad()
def test_an_output_that_is_not_finite_is_not_blamed_on_onnxruntime(tmp_path):
    net = deployed_net('A')
    net[2].reparam.bias[3] = float('nan')
    with pytest.raises(UserError, match="the model's own output for random images is not finite; nothing is written"):
        export_onnx(net, tmp_path / 'net.onnx', (3, 9, 12))
    assert not list(tmp_path.iterdir())
