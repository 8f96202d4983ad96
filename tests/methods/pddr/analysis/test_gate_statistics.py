"""Mean gates of PD-B by layer and class."""

import pytest
import torch
from mmengine.registry import DefaultScope

from reprefine.engine.errors import UserError
from reprefine.methods.pddr import PDConv
from reprefine.methods.pddr.analysis import (
    branch_responses,
    find_pd_conv,
    gate_table,
    mean_gates,
)

from ..toys import SmallClassifier, Twice, random_images


@pytest.fixture(autouse=True, scope='module')
def mmpretrain_scope():
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        yield


@torch.no_grad()
@pytest.mark.parametrize('is_deployed', [False, True])
def test_mean_gates_are_those_of_each_class(is_deployed):
    model, x, classes = SmallClassifier('B'), random_images(6), torch.tensor([2, 0, 2, 2, 0, 2])
    _, conv = find_pd_conv(model, 'layer2.1.conv1')
    inputs = []
    conv.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    model(x)
    pi = conv.gate(inputs[0])
    if is_deployed:
        model.backbone.switch_to_deploy()
    batches = [(x[:4], classes[:4]), (x[4:], classes[4:])]
    gates, counts = mean_gates(model, batches, num_classes=3)
    assert counts.tolist() == [2, 0, 4]
    assert len(gates) == 16
    found = gates['backbone.layer2.1.conv1']
    torch.testing.assert_close(found[0], pi[classes == 0].mean(0), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found[2], pi[classes == 2].mean(0), rtol=1e-4, atol=1e-6)
    assert found[1].isnan().all()
    torch.testing.assert_close(found[[0, 2]].sum(1), torch.ones(2))


def test_table_of_gates_weighs_classes_by_their_images():
    gates = {'layer': torch.tensor([[0.2, 0.8], [float('nan')] * 2, [0.6, 0.4]])}
    table = gate_table(gates, torch.tensor([3.0, 0.0, 1.0]), ('first', 'second'))
    assert table.splitlines()[-1] == '| layer | 0.300 ± 0.283 | 0.700 ± 0.283 |'
    single = gate_table({'layer': torch.tensor([[0.25, 0.75]])}, torch.tensor([5.0]), ('first', 'second'))
    assert single.splitlines()[-1] == '| layer | 0.250 | 0.750 |'


def test_a_network_without_gate_has_no_gates():
    with pytest.raises(UserError, match='no gate'):
        mean_gates(SmallClassifier('A'), [], 5)


@torch.no_grad()
def test_a_convolution_that_runs_twice_has_no_one_response_and_the_mean_of_its_gates():
    torch.manual_seed(0)
    conv = PDConv(8, 8, 3, padding=1, mode='B', group_num=4)
    model = Twice(conv).eval()
    x, classes = torch.randn(3, 8, 5, 5, generator=torch.Generator().manual_seed(0)), torch.tensor([1, 1, 1])
    with pytest.raises(UserError, match='runs 2 times in one forward pass'):
        branch_responses(lambda: model(x), conv)
    gates, _ = mean_gates(model, [(x[:2], classes[:2]), (x[2:], classes[2:])], 2)
    expected = (conv.gate(x) + conv.gate(conv(x))).mean(0) / 2
    torch.testing.assert_close(gates['layer'][1], expected)
    with pytest.raises(UserError, match='classes from 1 to 1, and the model 1'):
        mean_gates(model, [(x, classes)], 1)
