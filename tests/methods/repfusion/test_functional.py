"""Formulas against closed forms, float64 and other libraries."""

import math

import pytest
import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler
from torch.testing import assert_close

from reprefine.engine.errors import UserError
from reprefine.methods.repfusion import functional as f

ABAR = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)


def test_forward_noise_is_that_of_diffusers():
    x, eps, t = torch.randn(4, 3, 5, 5), torch.randn(4, 3, 5, 5), torch.tensor([0, 50, 500, 999])
    scheduler = DDPMScheduler()
    assert_close(f.add_noise(x, t, scheduler.alphas_cumprod, eps), scheduler.add_noise(x, eps, t), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_images_get_noise_at_timestep_zero(dtype):
    """0.9999 is 1 in half precision, with which the image would not change."""
    x0, eps = torch.zeros(2, 1, 4, 4, dtype=dtype), torch.ones(2, 1, 4, 4, dtype=dtype)
    noisy = f.add_noise(x0, torch.tensor([0, 999]), ABAR.float(), eps)
    assert noisy.dtype == dtype
    assert_close(noisy[:, 0, 0, 0].double(), (1 - ABAR[[0, 999]]).sqrt(), rtol=5e-3, atol=0)


def test_noise_is_small_at_timestep_zero_and_keeps_the_variance_at_all():
    x0, zero = torch.randn(1, 3, 8, 8, dtype=torch.float64), torch.zeros(1, dtype=torch.long)
    assert_close(f.add_noise(x0, zero, ABAR, torch.zeros_like(x0)), math.sqrt(0.9999) * x0, rtol=1e-12, atol=0)
    for t in range(0, 1000, 37):
        x, eps = torch.randn(2, 1, 20000, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(t))
        assert abs(f.add_noise(x, torch.tensor([t]), ABAR, eps).std().item() - 1) < 0.02


@pytest.mark.parametrize(
    ('mean', 'std'),
    [((128.0,) * 3, (128.0,) * 3), ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)), ((127.5,) * 3, (127.5,) * 3)],
)
def test_images_of_any_normalisation_are_converted_to_the_range_of_diffusion_models(mean, std):
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (mean, std))
    pixels = torch.arange(256.0).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    x = f.to_symmetric_range((pixels - mean) / std, mean, std)
    assert_close(x, pixels / 127.5 - 1, rtol=0, atol=1e-6)
    assert x.abs().max() <= 1 + 1e-6


def test_schedules_are_functions_of_the_epoch():
    epochs = (0, 1, 50, 99, 100, 130)
    weights = [f.linear_decay(e, 0.1, 0.0, 100) for e in epochs]
    assert weights == pytest.approx([0.1, 0.099, 0.05, 0.001, 0, 0])
    assert [f.max_timestep_at(e) for e in epochs] == [1000, 990, 525, 59, 50, 50]


def test_policy_loss_and_its_gradient():
    torch.manual_seed(0)
    logits = torch.randn(5, 7, dtype=torch.float64, requires_grad=True)
    t, reward = torch.tensor([0, 3, 6, 3, 1]), torch.randn(5, dtype=torch.float64)
    log_probs = logits.log_softmax(dim=1)
    loss = f.policy_loss(log_probs.gather(1, t[:, None]).flatten(), reward)
    assert loss.item() == pytest.approx(-sum(log_probs[i, t[i]].item() * reward[i].item() for i in range(5)) / 5)
    loss.backward()
    expected = -(reward[:, None] / 5) * (F.one_hot(t, 7) - logits.detach().softmax(dim=1))
    assert_close(logits.grad, expected)


def test_entropy_is_that_of_torch_and_has_no_gradient_at_the_uniform_policy():
    logits = torch.randn(4, 9, dtype=torch.float64)
    assert_close(f.entropy(logits.log_softmax(1)), torch.distributions.Categorical(logits=logits).entropy())
    masked = torch.tensor([[0.0, 0.0, -math.inf]]).log_softmax(1)
    assert f.entropy(masked).item() == pytest.approx(math.log(2))
    uniform = torch.zeros(3, 8, dtype=torch.float64, requires_grad=True)
    loss = f.entropy_loss(f.entropy(uniform.log_softmax(1)), 0.1)
    assert loss.item() == pytest.approx(-0.1 * math.log(8))
    loss.backward()
    assert uniform.grad.abs().max() < 1e-16


def test_info_nce_against_its_definition():
    q, k = torch.randn(2, 5, 4, dtype=torch.float64)
    unit_q, unit_k = q / q.norm(dim=1, keepdim=True), k / k.norm(dim=1, keepdim=True)
    for i in range(5):
        scores = [math.exp((unit_q[i] @ unit_k[j]).item() / 0.1) for j in range(5)]
        assert f.info_nce(q, k)[i].item() == pytest.approx(-math.log(scores[i] / sum(scores)))


def test_rewards():
    logits, labels = torch.tensor([[2.0, 0.0], [0.0, 0.0], [1.0, 3.0]]), torch.tensor([0, 1, 0])
    feats = torch.randn(3, 6)
    assert_close(f.neg_ce(logits, feats, labels)[:2], -torch.tensor([math.log(1 + math.exp(-2)), math.log(2)]))
    assert f.accuracy(logits, feats, labels).tolist() == [1, 0, 0]
    assert_close(f.neg_info_nce(None, feats, None), -f.info_nce(feats, feats))
    same = torch.ones(4, 6)  # features that tell nothing apart
    assert_close(f.neg_info_nce(None, same, None), torch.full((4,), -math.log(4)))
    student = feats + torch.tensor([[1.0], [2.0], [0.0]]) * torch.tensor([1.0, -1.0, 2.0, 0.0, 0.0, 0.0])
    assert_close(f.neg_feature_mse(None, feats, None, student), -0.1 * torch.tensor([1.0, 4.0, 0.0]))
    with pytest.raises(UserError, match="feature has 4 channels, but the teacher's 6: use a loss that projects"):
        f.neg_feature_mse(None, feats, None, student[:, :4])
    assert [f.uses_student(reward) for reward in (f.neg_ce, f.neg_feature_mse)] == [False, True]
    assert f.get_reward('accuracy') is f.accuracy
    assert f.get_reward(f.neg_ce) is f.neg_ce


def test_effective_rank_counts_equal_directions_and_ignores_scale():
    torch.manual_seed(0)
    basis = torch.linalg.qr(torch.randn(40, 12, dtype=torch.float64))[0]
    assert f.effective_rank(basis) == pytest.approx(12)
    assert f.effective_rank(7 * basis) == pytest.approx(12)
    assert f.effective_rank(torch.ones(5, 9)) == pytest.approx(1)
    # Singular values 3 and 1: entropy of (3/4, 1/4).
    expected = math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    assert f.effective_rank(torch.diag(torch.tensor([3.0, 1.0]))) == pytest.approx(expected)


def test_labels_are_matched_by_name_in_sorted_order():
    assert f.map_labels(['n3', 'n1'], ['n4', 'n3', 'n2', 'n1']) == [0, 2]
    with pytest.raises(UserError, match='no class n9'):
        f.map_labels(['n1', 'n9'], ['n1'])


def test_noise_of_the_first_step_survives_half_precision():
    eps = torch.ones(1, 1, 2, 2).half()
    noisy = f.add_noise(torch.zeros_like(eps), torch.tensor([0]), torch.tensor([0.9999]), eps)
    assert noisy.dtype == torch.half
    assert_close(noisy.float(), torch.full((1, 1, 2, 2), 0.01), rtol=0.01, atol=0)
