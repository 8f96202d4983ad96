"""The reward that uses the student's features, and the student that also learns from labels."""

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from reprefine.engine.errors import UserError
from reprefine.methods.repfusion import read_histogram
from reprefine.methods.repfusion.functional import neg_feature_mse, policy_loss

from ..distillation.test_distiller import GivenTimesteps, distiller, images, samples
from ..run import distiller as small_distiller
from ..run import trained
from .test_policy_timesteps import FEATS, X, gradients, make_policy

STUDENT = torch.randn(8, 6, 4, 4, generator=torch.Generator().manual_seed(2))
NECK = dict(type='mmpretrain.GlobalAveragePooling')
HEAD = dict(type='mmpretrain.LinearClsHead', num_classes=3, in_channels=32)


def accumulate(reward, student=STUDENT):
    """A policy with the gradients of one batch, and its mean reward."""
    source = make_policy(reward=reward)
    t = source.select(X, None)
    source.observe(t, [torch.zeros_like(FEATS), FEATS], None)
    source.observe_student([torch.zeros_like(student), student])
    return source, source.learn(update=False)[2].item()


def test_policy_is_rewarded_for_each_image_by_the_error_of_the_last_pair():
    student = STUDENT.clone().requires_grad_()
    source, mean = accumulate(neg_feature_mse, student)
    expected = -0.1 * (STUDENT.mean((2, 3)) - FEATS.mean((2, 3))).square().mean(1)
    assert mean == pytest.approx(expected.mean().item())
    policy = source.nets['policy']
    log_probs = policy(X).log_softmax(1)[range(8), source.rollout.timesteps]
    grads = torch.autograd.grad(policy_loss(log_probs, expected), list(policy.parameters()))
    for gradient, expected_gradient in zip(gradients(policy), grads, strict=True):
        assert_close(gradient, expected_gradient)
    assert student.grad is None
    assert not source.rollout.student.requires_grad


def test_a_reward_function_with_a_parameter_student_gets_its_features():
    _, mean = accumulate(lambda logits, feats, labels, student: student[:, 0] - feats[:, 1])
    assert mean == pytest.approx((STUDENT.mean((2, 3))[:, 0] - FEATS.mean((2, 3))[:, 1]).mean().item())


def test_reward_of_a_run_is_the_negative_loss_without_labels_or_head(tmp_path):
    runner = trained(tmp_path, dict(reward='neg_feature_mse', head=None), labelled=False)
    logged = {
        name: torch.from_numpy(runner.message_hub.log_scalars[f'train/{name}'].data[0])
        for name in ('reward', 'loss_feat')
    }
    assert len(logged['reward']) == 9
    assert_close(logged['reward'], -0.1 * logged['loss_feat'], check_dtype=False)
    assert (read_histogram(tmp_path).stats['reward'] < 0).all()


def test_a_loss_that_does_not_project_is_refused(tmp_path):
    model = small_distiller(loss=dict(type='reprefine.AttentionTransferLoss'))
    with pytest.raises(UserError, match="channels, but the teacher's 16: use a loss that projects"):
        trained(tmp_path, dict(reward='neg_feature_mse', head=None), model=model)


def test_head_adds_the_cross_entropy_of_its_labels():
    model = distiller(neck=NECK, head=HEAD).eval()
    model.timestep_source = GivenTimesteps(torch.tensor([0, 10, 500, 999]))
    losses = model(images(), samples(), mode='loss')
    headless = distiller(neck=NECK).eval()
    headless.timestep_source = model.timestep_source
    headless.load_state_dict({key: value for key, value in model.state_dict().items() if not key.startswith('head.')})
    assert_close(losses['loss_feat'], headless(images(), samples(), mode='loss')['loss_feat'])
    logits = model.head.fc(model.extract_feat(images())[-1].mean((2, 3)))
    assert_close(losses['loss_task'], F.cross_entropy(logits, torch.tensor([0, 1, 2, 0])))
    total, log = model.parse_losses(losses)
    assert_close(total, losses['loss_feat'] + losses['loss_task'])
    assert {'loss', 'loss_feat', 'loss_task', 'timesteps'} == set(log)
    conv = model.student['backbone'].conv1.weight
    assert torch.autograd.grad(losses['loss_task'], conv)[0].abs().sum() > 0


def test_head_is_trained_and_saved_in_the_checkpoint(tmp_path):
    student = dict(backbone=dict(type='ResNet_CIFAR', depth=18, base_channels=4, stem_channels=4), neck=NECK)
    model = small_distiller(student=student, head=HEAD)
    start = model.head.fc.weight.detach().clone()
    trained(tmp_path, {}, model=model)
    weights = torch.load(tmp_path / 'epoch_3.pth', weights_only=True)['state_dict']
    assert {key.split('.')[0] for key in weights} == {'student', 'projectors', 'head'}
    assert not torch.equal(weights['head.fc.weight'], start)
