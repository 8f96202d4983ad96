"""The forms of the training computation give the same outputs, gradients and running statistics."""

import copy

import pytest
import torch

from reprefine.methods.pddr.layers.branches import update_statistics
from reprefine.methods.pddr.layers.fused import BranchSumFunction, ConvNormSpec

from ..toys import image, make_conv

LAYOUTS = [torch.contiguous_format, torch.channels_last]


def step(conv, compute: str, x: torch.Tensor, training: bool = True) -> dict[str, torch.Tensor]:
    """Return everything a forward and a backward pass leave behind."""
    conv = copy.deepcopy(conv).train(training)
    conv.compute = compute
    x = x.clone().requires_grad_()
    y = conv(x)
    y.backward(image(*y.shape, dtype=x.dtype, seed=9))
    grads = {f'grad {name}': parameter.grad for name, parameter in conv.named_parameters()}
    return {'y': y.detach(), 'x': x.grad} | grads | dict(conv.named_buffers())


def assert_same(actual: dict, reference: dict, bound: float) -> None:
    assert actual.keys() == reference.keys()
    for name, value in actual.items():
        # Relative to the whole, since a sum of large terms may vanish.
        assert (value - reference[name]).abs().max() <= bound * reference[name].abs().max().clamp(min=1), name


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('dtype', [torch.float64, torch.float32])
@pytest.mark.parametrize('compute', ['fused', 'lean', 'auto'])
@pytest.mark.parametrize('mode', ['A', 'B'])
def test_batch_statistics(mode, compute, dtype, layout):
    conv = make_conv(mode=mode, dtype=dtype, stride=2)
    x = (image(5, 8, 9, 7, dtype=dtype) + 3).contiguous(memory_format=layout)
    assert_same(step(conv, compute, x), step(conv, 'branches', x), 1e-10 if dtype == torch.float64 else 1e-5)


@pytest.mark.parametrize('mode', ['A', 'B'])
def test_fixed_statistics_use_the_equivalent_kernel(mode):
    conv = make_conv(mode=mode, groups=2)
    x = image(3, 8, 6, 7)
    assert_same(step(conv, 'auto', x, training=False), step(conv, 'branches', x, training=False), 1e-10)


@pytest.mark.parametrize('compute', ['auto', 'fused', 'lean'])
def test_partly_fixed_statistics(compute):
    conv = make_conv().train()
    conv.compute = compute
    conv.standard1.bn.eval()  # as norm_eval on some norms only would leave it
    x = image(3, 8, 6, 7)
    expected = conv.standard1(x) + conv.standard2(x) + conv.skeleton(x) + conv.group(x)
    torch.testing.assert_close(conv(x), expected)


@pytest.mark.parametrize('lean', [False, True])
def test_gradient_against_finite_differences(lean):
    plan = [
        ConvNormSpec((1, 1), (1, 1), (1, 1), 1, 1e-5, 0, lean),
        ConvNormSpec((1, 1), (1, 0), (1, 1), 1, 1e-5, 1),
        ConvNormSpec((1, 1), (0, 1), (1, 1), 1, 1e-5, 1, lean),
    ]
    tensors = [image(2, 2, 4, 3), image(2, 2).softmax(1), image(3, 2, 3, 3), image(3, 2, 3, 1), image(3, 2, 1, 3)]
    tensors += [image(3, seed=seed) for seed in range(6)]
    inputs = [tensor.requires_grad_() for tensor in tensors]

    def output(x, pi, *parameters):
        return BranchSumFunction.apply(x, pi, plan, *parameters)[0]

    assert torch.autograd.gradcheck(output, inputs)


def test_first_layer_needs_no_gradient_of_its_input():
    conv = make_conv().train()
    conv.compute = 'fused'
    conv(image(2, 8, 6, 6)).sum().backward()
    assert all(parameter.grad is not None for parameter in conv.parameters())


@pytest.mark.parametrize('momentum', [0.1, None])
def test_running_statistics_move_as_in_torch(momentum):
    actual, reference = (torch.nn.BatchNorm2d(4, momentum=momentum).double() for _ in range(2))
    for seed in range(3):
        x = image(3, 4, 5, 6, seed=seed)
        reference(x)
        update_statistics(actual, x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0), x.numel() / 4)
    for name, value in actual.state_dict().items():
        torch.testing.assert_close(value, reference.state_dict()[name])


@pytest.mark.parametrize(('compute', 'kept'), [('branches', 6), ('fused', 6), ('lean', 1)])
def test_what_is_kept_for_the_backward_pass(compute, kept):
    conv = make_conv(8, 8, compute=compute).train()
    x = image(2, 8, 32, 32).requires_grad_()
    sizes = {}

    def pack(tensor):
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        conv(x)
    assert round(sum(sizes.values()) / x.nbytes) == kept  # maps: the input, and the output of each convolution


def test_lean_saves_the_most_expensive_outputs():
    conv = make_conv(512, 64, dtype=torch.float32, compute='lean', group_num=64)
    lean = {
        name: ConvNormSpec.of(part, 0, lean=True).lean for name, part in conv.named_children() if name != 'skeleton'
    }
    assert lean == dict(standard1=False, standard2=False, group=True)
    assert all(ConvNormSpec.of(part, 0, lean=True).lean for part in conv.skeleton.conv_norms())


@pytest.mark.parametrize('compute', ['auto', 'branches', 'fused', 'lean'])
@pytest.mark.parametrize('mode', ['A', 'B'])
def test_a_single_value_per_channel_is_refused_as_by_torch(mode, compute):
    conv = make_conv(mode=mode, compute=compute, stride=2).train()
    before = copy.deepcopy(dict(conv.named_buffers()))
    with pytest.raises(
        ValueError, match=r'^Expected more than 1 value per channel when training, got input size torch.S'
    ):
        conv(image(1, 8, 2, 1))
    for name, value in conv.named_buffers():
        counts = name.endswith('num_batches_tracked') and compute in ('auto', 'branches')  # torch counts, then refuses
        assert counts or torch.equal(value, before[name]), name
    conv(image(2, 8, 2, 1))  # two values are enough
    assert all(value.isfinite().all() for value in conv.buffers())


@pytest.mark.parametrize('compute', ['auto', 'branches', 'fused', 'lean'])
@pytest.mark.parametrize('mode', ['A', 'B'])
def test_an_empty_batch_trains_and_leaves_the_statistics(mode, compute):
    conv = make_conv(mode=mode).train()
    before = copy.deepcopy(dict(conv.named_buffers()))
    left = step(conv, compute, image(0, 8, 6, 7))
    assert left['y'].shape == (0, 16, 6, 7)
    assert all(not value.any() for name, value in left.items() if name.startswith('grad '))
    assert all(torch.equal(left[name], value) for name, value in before.items() if 'running' in name)
