import pytest
import torch
from torch import nn
from torch.nn import functional as F

from reprefine.engine.errors import UserError
from reprefine.models.wide_resnet_cifar import WideResNetCIFAR


def reference_parameters(depth, factor):
    """Count convolutions, two parameters per normalised channel, and 1x1 shortcuts where the width changes."""
    blocks = (depth - 4) // 6
    count, width = 3 * 16 * 9, 16
    for stage in range(3):
        channels = 16 * factor * 2**stage
        for _ in range(blocks):
            count += 2 * width + width * channels * 9 + 2 * channels + channels * channels * 9
            if width != channels:
                count += width * channels + 2 * channels
            width = channels
    return count + 2 * width


@pytest.mark.parametrize('depth, factor', [(10, 1), (28, 2), (28, 10)])
def test_parameters(depth, factor):
    model = WideResNetCIFAR(depth=depth, widen_factor=factor)
    assert sum(parameter.numel() for parameter in model.parameters()) == reference_parameters(depth, factor)


@pytest.mark.parametrize('size', [32, 64])
def test_stages(size):
    outputs = WideResNetCIFAR(out_indices=(0, 1, 2)).eval()(torch.zeros(1, 3, size, size))
    assert [tuple(output.shape[1:]) for output in outputs] == [
        (32, size, size),
        (64, size // 2, size // 2),
        (128, size // 4, size // 4),
    ]


def test_a_block_equals_its_formula():
    torch.manual_seed(0)
    model = WideResNetCIFAR(depth=10, widen_factor=1).double().eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight), nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.normal_(module.bias), nn.init.normal_(module.running_mean)
    block, x = model.layer2[0], torch.randn(2, 16, 8, 8, dtype=torch.float64)

    def normalise(bn, y):
        scale = bn.weight / (bn.running_var + bn.eps).sqrt()
        return (y - bn.running_mean[:, None, None]) * scale[:, None, None] + bn.bias[:, None, None]

    y = F.conv2d(F.leaky_relu(normalise(block.bn1, x), 0.1), block.conv1.weight, stride=2, padding=1)
    y = F.conv2d(F.leaky_relu(normalise(block.bn2, y), 0.1), block.conv2.weight, padding=1)
    expected = y + normalise(block.shortcut[1], F.conv2d(x, block.shortcut[0].weight, stride=2))
    torch.testing.assert_close(block(x), expected)


def test_the_last_stage_is_normalised_and_activated():
    model = WideResNetCIFAR(depth=10, widen_factor=1).eval()
    seen = []
    model.layer3.register_forward_hook(lambda module, inputs, output: seen.append(output))
    (output,) = model(torch.randn(1, 3, 32, 32))
    torch.testing.assert_close(output, F.leaky_relu(model.bn1(seen[0]), 0.1))


def test_an_invalid_depth_is_refused():
    with pytest.raises(UserError, match='6 n'):
        WideResNetCIFAR(depth=20)
