import pytest
import torch

from reprefine.tasks.depth.functional import gradient_loss, sig_loss
from reprefine.tasks.depth.losses import GradientLoss, SigLoss


@pytest.fixture
def maps():
    generator = torch.Generator().manual_seed(0)
    return [1 + 5 * torch.rand(2, 1, 12, 16, generator=generator) for _ in range(2)]


def test_variance_is_included_from_call_101(maps):
    loss = SigLoss(loss_weight=2.0)
    values = [loss(*maps).item() for _ in range(102)]
    without, with_variance = 2 * sig_loss(*maps, 0.0).item(), 2 * sig_loss(*maps, 1.0).item()
    assert values == pytest.approx(100 * [without] + 2 * [with_variance], rel=1e-6)
    assert with_variance > 1.1 * without


def test_no_error_no_loss_after_the_warmup(maps):
    loss = SigLoss(warmup=0)
    depth = maps[0].requires_grad_()
    value = loss(depth, depth.detach())
    value.backward()
    assert value.item() == pytest.approx(0, abs=2e-6)
    assert depth.grad.abs().max() == 0


def test_the_number_of_calls_is_restored_on_resume(maps):
    loss, resumed = SigLoss(warmup=3), SigLoss(warmup=3)
    for _ in range(3):
        loss(*maps)
    resumed.load_state_dict(loss.state_dict())
    assert resumed(*maps).item() == pytest.approx(sig_loss(*maps).item(), rel=1e-6)


def test_gradient_loss_is_weighted_and_named(maps):
    assert GradientLoss()(*maps).item() == pytest.approx(0.5 * gradient_loss(*maps).item(), rel=1e-6)
    assert GradientLoss(loss_weight=0.0)(*maps) == 0
    assert [loss.loss_name for loss in (SigLoss(), GradientLoss())] == ['loss_sig', 'loss_gradient']
