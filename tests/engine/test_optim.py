import pytest
import torch
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.registry import OPTIM_WRAPPERS
from torch import nn

import reprefine
from reprefine.engine.optim import sync_default_lr

X = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))


def model_and_wrapper(**options):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 1))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    assert reprefine.__version__
    return model, OPTIM_WRAPPERS.build(dict(type='reprefine.CPUAmpOptimWrapper', optimizer=optimizer, **options))


@pytest.mark.parametrize('accumulate', [1, 2])
def test_step_equals_autocast_without_loss_scale(accumulate):
    """Two micro-batches are one step with the mean of their gradients."""
    model, wrapper = model_and_wrapper(accumulative_counts=accumulate)
    wrapper.initialize_count_status(model, 0, 2)
    for rows in X.chunk(accumulate):
        with wrapper.optim_context(model):
            output = model(rows)
        assert output.dtype == torch.bfloat16
        wrapper.update_params(output.float().square().mean())
    plain, _ = model_and_wrapper()
    for rows in X.chunk(accumulate):
        with torch.autocast('cpu', torch.bfloat16):
            output = plain(rows)
        (output.float().square().mean() / accumulate).backward()
    for trained, parameter in zip(model.parameters(), plain.parameters(), strict=True):
        assert trained.dtype == torch.float32
        torch.testing.assert_close(trained, parameter - 0.1 * parameter.grad)


def test_gradients_are_near_those_of_float32():
    model, wrapper = model_and_wrapper()
    with wrapper.optim_context(model):
        loss = model(X).float().square().mean()
    wrapper.backward(loss)
    plain, _ = model_and_wrapper()
    plain(X).square().mean().backward()
    for trained, parameter in zip(model.parameters(), plain.parameters(), strict=True):
        assert (trained.grad - parameter.grad).norm() < 0.03 * parameter.grad.norm()
        assert not torch.equal(trained.grad, parameter.grad)
    assert 'loss_scaler' not in wrapper.state_dict()


def test_default_rates_of_several_optimisers_are_scaled_as_their_groups():
    layers = (nn.Linear(2, 2), nn.Linear(2, 2))
    wrappers = [
        OptimWrapper(torch.optim.SGD([{'params': layer.parameters(), 'lr': lr}], lr=2 * lr))
        for layer, lr in zip(layers, (0.1, 0.3), strict=True)
    ]
    with sync_default_lr(OptimWrapperDict(a=wrappers[0], b=wrappers[1])):
        for wrapper, ratio in zip(wrappers, (2, 0.5), strict=True):
            wrapper.optimizer.param_groups[0]['lr'] *= ratio
    assert [wrapper.optimizer.defaults['lr'] for wrapper in wrappers] == pytest.approx([0.4, 0.3])
