"""TorchScript of both forms."""

import pytest
import torch
from torch import nn

from reprefine.methods.pddr import PDConv

from ..toys import image, randomise


def deployed_net(mode: str) -> nn.Sequential:
    torch.manual_seed(0)
    first = PDConv(3, 16, 3, 2, 1, branches=('standard1', 'skeleton'), mode=mode, reduction=1)
    second = PDConv(16, 16, 3, 1, 2, 2, groups=2, group_num=4, mode=mode, reduction=4)
    net = randomise(nn.Sequential(first, nn.ReLU(), second)).eval()
    first.switch_to_deploy()
    second.switch_to_deploy()
    return net


@pytest.mark.filterwarnings('ignore::torch.jit.TracerWarning', 'ignore:.*torch.jit.trace:DeprecationWarning')
@pytest.mark.parametrize('size', [(9, 12), (24, 40)])  # of which eager execution mixes outputs, and kernels
@pytest.mark.parametrize('mode', ['A', 'B'])
def test_torchscript(mode, size):
    net = deployed_net(mode)
    traced = torch.jit.trace(net, image(2, 3, *size, dtype=torch.float32), check_trace=False)
    x = image(5, 3, *size, dtype=torch.float32, seed=3)
    torch.testing.assert_close(traced(x), net(x), rtol=1e-4, atol=1e-4)
    assert str(traced.inlined_graph).count('aten::_convolution') == 2
