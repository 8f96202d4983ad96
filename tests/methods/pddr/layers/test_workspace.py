"""Memory that is written again never shows in results."""

import threading

import pytest
import torch

from reprefine.methods.pddr.layers.workspace import can_use_workspace, workspace

from ..toys import image, make_conv


def deployed(**kwargs):
    conv = make_conv(mode='B', execution='kernel', **kwargs)
    conv.switch_to_deploy()
    return conv


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_results_of_earlier_calls_stay_as_they_were(dtype):
    """Convolutions of different sizes share the memory; what they returned does not lie in it."""
    small, large = deployed(dtype=dtype), deployed(in_channels=16, out_channels=32, dtype=dtype)
    calls = [(small, image(2, 8, 5, 5, dtype=dtype)), (large, image(1, 16, 5, 5, dtype=dtype))] * 2
    with torch.enable_grad():
        expected = [conv(x).detach() for conv, x in calls]  # the gate's gradient is wanted: fresh memory
    with torch.no_grad():
        results = [conv(x) for conv, x in calls]
    for result, value in zip(results, expected, strict=True):
        torch.testing.assert_close(result, value)
    assert torch.equal(results[0], results[2])


def test_the_same_memory_comes_back_and_grows():
    like = torch.zeros(1, dtype=torch.float64)
    first = workspace(2, 3, like)
    assert first.shape == (2, 3)
    assert workspace(3, 2, like).data_ptr() == first.data_ptr()
    large = workspace(1, 10**6, like)
    assert large.numel() == 10**6
    assert workspace(2, 3, like).data_ptr() == large.data_ptr()


def test_threads_have_memory_of_their_own():
    like, addresses = torch.zeros(1), []
    actual = workspace(4, 4, like).data_ptr()
    thread = threading.Thread(target=lambda: addresses.append(workspace(4, 4, like).data_ptr()))
    thread.start()
    thread.join()
    assert addresses != [actual]


def test_memory_first_asked_for_in_inference_mode_serves_outside_of_it():
    conv = deployed(dtype=torch.bfloat16)  # a type that no other test asks for
    x = image(1, 8, 4, 4, dtype=torch.bfloat16)
    with torch.inference_mode():
        inside = conv(x)
    with torch.no_grad():
        assert torch.equal(conv(x), inside)


def test_nothing_that_autograd_remembers_is_written_again():
    weight = torch.ones(2, requires_grad=True)
    assert not can_use_workspace(torch.ones(2), weight)
    with torch.no_grad():
        assert can_use_workspace(torch.ones(2), weight)
    assert can_use_workspace(torch.ones(2))
    conv, x = deployed().double(), image(2, 8, 5, 5)
    conv.requires_grad_(True)
    conv(x).square().sum().backward()
    wide = deployed().double()
    wide.requires_grad_(True)
    wide.execution = 'output'
    wide(x).square().sum().backward()
    for (name, actual), reference in zip(conv.named_parameters(), wide.parameters(), strict=True):
        torch.testing.assert_close(actual.grad, reference.grad, msg=lambda m, n=name: f'{n}: {m}')
