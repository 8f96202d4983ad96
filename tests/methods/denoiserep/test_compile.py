"""``torch.compile`` of a refined model, its forward pass or all of it: losses and gradients are those of eager."""

import pytest
import torch
from torch import Tensor, nn

from reprefine.methods.denoiserep import set_phase

from .toys import TinyConvNet, TinyViT, images, refined

LABELS = torch.tensor([0, 1, 2, 3])
LOSSES = {
    'denoise': {'loss_cls', 'loss_denoise'},
    'backbone': {'loss_cls'},
    'joint': {'loss_cls', 'loss_denoise'},
    'eval_only': {'loss_cls'},
}


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def small_vit() -> nn.Module:
    return TinyViT(depth=1)


def compiled(model: nn.Module, target: str, backend: str) -> nn.Module:
    """As ``compile=True`` of mmengine's Runner (``forward``), or as a user does it (``whole``)."""
    if target == 'whole':
        return torch.compile(model, backend=backend)
    model.forward = torch.compile(model.forward, backend=backend)
    return model


def losses_and_gradients(model: nn.Module, call: nn.Module, phase: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    model.zero_grad()
    torch.manual_seed(1)
    losses = call(images(), LABELS, mode='loss')
    if phase != 'eval_only':
        sum(losses.values()).backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return {name: value.detach() for name, value in losses.items()}, gradients


def assert_trains_as_in_eager(phases, factory, target='forward', backend='eager', **options) -> None:
    eager, model = (refined(factory, **options).train() for _ in range(2))
    call = compiled(model, target, backend)
    for phase in phases:
        set_phase(eager, phase)
        set_phase(model, phase)
        for _ in range(2):
            expected = losses_and_gradients(eager, eager, phase)
            found = losses_and_gradients(model, call, phase)
            assert found[0].keys() == expected[0].keys() == LOSSES[phase]
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
        assert bool(expected[1]) == (phase != 'eval_only')
    with torch.no_grad():
        torch.testing.assert_close(call.eval()(images()), eager.eval()(images()), rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('phase', LOSSES)
def test_every_phase_trains_as_in_eager(phase):
    """With the noise of the bias, whose draws are the same in the order of the program."""
    assert_trains_as_in_eager([phase], small_vit, include='mlp', bias_noise=True)


@pytest.mark.filterwarnings('ignore')
def test_a_model_that_is_compiled_follows_the_changes_of_the_phase():
    assert_trains_as_in_eager(['denoise', 'backbone', 'denoise'], small_vit, 'whole', include='fc1')


@pytest.mark.filterwarnings('ignore')
def test_convolutions_train_through_the_graphs_of_autograd():
    assert_trains_as_in_eager(['joint'], TinyConvNet, backend='aot_eager', include='grouped')


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('target', ['forward', 'whole'])
def test_a_model_that_is_compiled_is_evaluated_after_folding(target):
    model = refined(small_vit, include='all').eval()
    call = compiled(model, target, 'aot_eager')
    with torch.no_grad():
        expected = call(images())
        model.switch_to_deploy()
        torch.testing.assert_close(call(images()), expected, rtol=1e-5, atol=1e-5)
    losses = call.train()(images(), LABELS, mode='loss')
    assert set(losses) == {'loss_cls'}
