import pytest
import torch
import torch.nn.functional as F
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import nn

from reprefine.tasks.segmentation import LinearHead


@pytest.fixture
def head():
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmseg'):
        head = LinearHead(in_channels=6, num_classes=4)
        head.init_weights()
    assert isinstance(head.norm, nn.SyncBatchNorm)
    return revert_sync_batchnorm(head)


@pytest.fixture
def maps():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, 6, 5, 7, generator=generator), 3 + 2 * torch.randn(2, 6, 5, 7, generator=generator)]


def test_logits_are_linear_in_the_normalised_last_map(head, maps):
    logits = head.train()(maps)
    x = maps[-1]
    normed = (x - x.mean((0, 2, 3), keepdim=True)) / (x.var((0, 2, 3), keepdim=True, unbiased=False) + 1e-5).sqrt()
    expected = torch.einsum('bchw,kc->bkhw', normed, head.conv_seg.weight[..., 0, 0])
    assert (logits - expected).abs().max() < 1e-5


def test_running_statistics_are_used_in_evaluation(head, maps):
    for _ in range(200):
        head.train()(maps)
    count = maps[-1].numel() / 6
    mean, var = maps[-1].mean((0, 2, 3)), maps[-1].var((0, 2, 3))
    assert head.norm.momentum == 0.1
    assert head.norm.running_mean == pytest.approx(mean, abs=1e-5)
    assert head.norm.running_var == pytest.approx(var, abs=1e-4)
    trained, evaluated = head(maps), head.eval()(maps)
    assert (trained - evaluated).abs().max() < 1 / count


def test_initial_values(head):
    with DefaultScope.overwrite_default_scope('mmseg'):
        large = LinearHead(in_channels=768, num_classes=150)
        large.init_weights()
    assert large.conv_seg.weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert large.conv_seg.bias.abs().max() == 0
    assert sum(parameter.numel() for parameter in large.parameters()) == 2 * 768 + 151 * 768 - 768 + 150
    assert head.dropout is None


def test_loss_is_the_mean_over_all_pixels(head, maps):
    """Ignored pixels have loss zero but are part of the mean."""
    labels = torch.randint(0, 4, (2, 1, 20, 28), generator=torch.Generator().manual_seed(0))
    labels[:, :, :10] = 255
    samples = [SegDataSample(gt_sem_seg=PixelData(data=label)) for label in labels]
    losses = head.eval().loss(maps, samples, None)
    logits = F.interpolate(head(maps), size=(20, 28), mode='bilinear', align_corners=False)
    expected = F.cross_entropy(logits, labels[:, 0], ignore_index=255, reduction='sum') / labels.numel()
    assert losses['loss_ce'].item() == pytest.approx(expected.item(), rel=1e-5)
