import pytest
import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from reprefine.tasks.depth.functional import depth_from_bins, gradient_loss, sig_loss
from reprefine.tasks.depth.heads import LinearDepthHead


@pytest.fixture(autouse=True)
def mmseg_scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


def make_head(**kwargs):
    torch.manual_seed(0)
    head = LinearDepthHead(in_channels=6, num_bins=32, **kwargs)
    torch.nn.init.normal_(head.conv_seg.weight)
    torch.nn.init.normal_(head.conv_seg.bias)
    return head


def make_inputs(height=3, width=5):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 6, height, width, generator=generator), torch.randn(2, 6, generator=generator)


def sample(height=20, width=24, seed=0):
    depth = 9 * torch.rand(1, height, width, generator=torch.Generator().manual_seed(seed))
    metainfo = dict(ori_shape=(height, width), img_shape=(height, width), pad_shape=(height, width))
    return SegDataSample(gt_depth_map=PixelData(data=depth), metainfo=metainfo)


def test_depth_follows_the_definition():
    """Class token concatenated to every patch, upsampled fourfold, then the convolution."""
    head = make_head()
    features, cls_token = make_inputs()
    both = torch.cat((features, cls_token[:, :, None, None].repeat(1, 1, 3, 5)), dim=1)
    large = F.interpolate(both, scale_factor=4, mode='bilinear', align_corners=False)
    expected = depth_from_bins(head.conv_seg(large), torch.linspace(0.001, 10, 32))
    depth = head([None, (features, cls_token)])
    assert depth.shape == (2, 1, 12, 20)
    assert (depth - expected).abs().max() < 1e-5
    assert depth.min() >= 0.001
    assert depth.max() <= 10


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_depth_is_the_same_in_mixed_precision(dtype):
    head, inputs = make_head(), [make_inputs()]
    expected = head(inputs)
    with torch.autocast('cpu', dtype):
        depth = head(inputs)
        halves = depth_from_bins(torch.randn(1, 32, 2, 2).to(dtype), head.bins)
    assert depth.dtype == halves.dtype == torch.float32
    assert torch.equal(depth, expected)


def test_losses_are_taken_at_the_size_of_the_target():
    head = make_head(loss_decode=[dict(type='reprefine.SigLoss', warmup=0), dict(type='reprefine.GradientLoss')])
    samples = [sample(seed=0), sample(seed=1)]
    losses = head.loss([make_inputs()], samples, None)
    depth = F.interpolate(head([make_inputs()]), size=(20, 24), mode='bilinear', align_corners=False)
    target = torch.stack([sample.gt_depth_map.data for sample in samples])
    assert losses['loss_sig'].item() == pytest.approx(sig_loss(depth, target).item(), rel=1e-5)
    assert losses['loss_gradient'].item() == pytest.approx(0.5 * gradient_loss(depth, target).item(), rel=1e-5)


def test_only_the_convolution_is_trained_and_saved():
    head = make_head()
    assert {name: tuple(p.shape) for name, p in head.named_parameters()} == {
        'conv_seg.weight': (32, 12, 1, 1),
        'conv_seg.bias': (32,),
    }
    assert head.state_dict().keys() == {'conv_seg.weight', 'conv_seg.bias', 'loss_decode.0.calls'}
    losses = head.loss([make_inputs()], [sample(), sample(seed=1)], None)
    sum(losses.values()).backward()
    assert head.conv_seg.weight.grad.abs().sum() > 0


def make_estimator(mode):
    torch.manual_seed(0)
    estimator = MODELS.build(
        dict(
            type='DepthEstimator',
            backbone=dict(
                type='reprefine.TimmViT',
                model_name='vit_base_patch14_reg4_dinov2.lvd142m',
                img_size=56,
                with_cls_token=True,
                model_args=dict(depth=1, embed_dim=48, num_heads=3),
            ),
            decode_head=dict(type='reprefine.LinearDepthHead', in_channels=48),
            test_cfg=ConfigDict(mode=mode, crop_size=(40, 60), stride=(40, 60)),
        )
    )
    torch.nn.init.normal_(estimator.decode_head.conv_seg.weight)
    return estimator.eval()


@torch.no_grad()
def test_mirrored_pass_is_unflipped_and_averaged():
    image = torch.randn(1, 3, 40, 60, generator=torch.Generator().manual_seed(0))
    single, both = make_estimator('whole'), make_estimator('slide_flip')

    def predict(model, x):
        return model.predict(x, [sample(40, 60)])[0].pred_depth_map.data

    straight, mirrored = predict(single, image), predict(single, image.flip(3)).flip(2)
    assert (straight - mirrored).abs().max() > 1e-3
    assert straight.shape == (1, 40, 60)
    assert (predict(both, image) - (straight + mirrored) / 2).abs().max() < 1e-5


def test_only_the_head_of_a_frozen_estimator_trains():
    estimator = make_estimator('whole').train()
    trainable = {name for name, parameter in estimator.named_parameters() if parameter.requires_grad}
    assert trainable == {'decode_head.conv_seg.weight', 'decode_head.conv_seg.bias'}
    assert not any(module.training for module in estimator.backbone.modules())
    image = torch.randn(2, 3, 40, 60, generator=torch.Generator().manual_seed(0))
    before = estimator.backbone(image)[0][0]
    optimizer = torch.optim.AdamW(estimator.parameters(), lr=0.1, weight_decay=0.1)
    sum(estimator.loss(image, [sample(40, 60), sample(40, 60, seed=1)]).values()).backward()
    optimizer.step()
    assert torch.equal(estimator.backbone(image)[0][0], before)
