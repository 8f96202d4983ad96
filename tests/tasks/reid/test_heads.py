import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import init_default_scope
from mmpretrain.structures import DataSample

from reprefine.engine.errors import UserError
from reprefine.tasks.reid.heads import BNNeckHead
from reprefine.tasks.reid.losses import BatchHardTripletLoss

TRIPLET = dict(type='reprefine.BatchHardTripletLoss')
LABELS = [0, 0, 4, 4, 2, 2]


def make_head(**kwargs):
    init_default_scope('mmpretrain')  # independent of earlier tests
    head = BNNeckHead(num_classes=5, in_channels=8, triplet=TRIPLET, **kwargs)
    head.init_weights()
    return head


def make_batch():
    generator = torch.Generator().manual_seed(0)
    feature = torch.randn(len(LABELS), 8, generator=generator) * 3 + 1
    return (torch.zeros(len(LABELS), 2), feature), [DataSample().set_gt_label(label) for label in LABELS]


def identity_scores(head, feature):
    neck = (feature - feature.mean(0)) / (feature.var(0, correction=0) + 1e-5).sqrt()
    return neck @ head.classifier.weight.T


def test_initial_state():
    head = make_head()
    assert head.classifier.bias is None
    assert torch.equal(head.bottleneck.weight, torch.ones(8))
    assert torch.equal(head.bottleneck.bias, torch.zeros(8))
    assert not head.bottleneck.bias.requires_grad
    wide = BNNeckHead(num_classes=500, in_channels=200, triplet=TRIPLET)
    wide.init_weights()
    assert wide.classifier.weight.std().item() == pytest.approx(1e-3, rel=0.02)
    assert wide.classifier.weight.mean().abs() < 2e-5


def test_losses():
    head = make_head(cal_acc=True)
    feats, samples = make_batch()
    losses = head.loss(feats, samples)
    assert set(losses) == {'loss_id', 'loss_triplet', 'accuracy_top-1'}
    labels = torch.tensor(LABELS)
    scores = identity_scores(head, feats[-1])
    assert torch.allclose(losses['loss_id'], F.cross_entropy(scores, labels), atol=1e-6)
    assert torch.equal(losses['loss_triplet'], BatchHardTripletLoss()(feats[-1], labels))
    accuracy = (scores.argmax(1) == labels).float().mean() * 100
    assert losses['accuracy_top-1'][0].item() == pytest.approx(accuracy.item())


def test_label_smoothing():
    head = make_head(loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'))
    feats, samples = make_batch()
    expected = F.cross_entropy(identity_scores(head, feats[-1]), torch.tensor(LABELS), label_smoothing=0.1)
    assert torch.allclose(head.loss(feats, samples)['loss_id'], expected, atol=1e-6)


def test_feature_and_neck_have_gradients_but_not_the_bias_of_the_neck():
    head = make_head()
    feats, samples = make_batch()
    feature = feats[-1].requires_grad_()
    losses = head.loss((feature,), samples)
    (losses['loss_id'] + losses['loss_triplet']).backward()
    assert feature.grad.abs().min() > 0
    assert head.bottleneck.weight.grad.abs().min() > 0
    assert head.bottleneck.bias.grad is None


@pytest.mark.parametrize('feature', ['before', 'after'])
def test_features_for_retrieval(feature):
    head = make_head(feature=feature).eval()
    head.bottleneck.running_mean.fill_(2.0)
    head.bottleneck.running_var.fill_(4.0 - 1e-5)
    feats, samples = make_batch()
    expected = feats[-1] if feature == 'before' else (feats[-1] - 2) / 2
    assert torch.allclose(head(feats), expected)
    predicted = head.predict(feats, samples)
    assert all(a is b for a, b in zip(predicted, samples, strict=True))
    assert torch.equal(torch.stack([sample.feature for sample in predicted]), head(feats))
    assert torch.equal(head.predict(feats)[2].feature, head(feats)[2])


def test_a_stored_feature_does_not_keep_its_batch():
    feats, samples = make_batch()
    feature = make_head().predict(feats, samples)[0].feature
    assert feature.untyped_storage().nbytes() == 8 * feature.element_size()


def test_unknown_feature_is_refused():
    with pytest.raises(UserError, match="unknown feature 'neck'; choose from before, after"):
        make_head(feature='neck')
