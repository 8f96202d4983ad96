"""Tables keep their precision when the module that holds them is cast."""

import pytest
import torch
from torch import nn

from reprefine.models.precision import KeepsPrecision


class Scheduled(KeepsPrecision):
    full_precision = ('table', 'absent')

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.register_buffer('table', torch.tensor([0.9999, 1e-8]))
        self.register_buffer('other', torch.ones(1))


@pytest.mark.parametrize('cast', [nn.Module.half, nn.Module.bfloat16, lambda m: m.to(torch.float16), nn.Module.double])
def test_a_cast_leaves_the_table_alone(cast):
    model = nn.Sequential(Scheduled())
    before = model[0].table.clone()
    cast(model)
    assert model[0].table.dtype == torch.float32
    assert torch.equal(model[0].table, before)
    assert model[0].layer.weight.dtype == model[0].other.dtype != torch.float32


def test_the_table_follows_to_the_device_and_comes_with_the_state():
    model = Scheduled().to('meta')
    assert model.table.is_meta
    assert model.to_empty(device='cpu').table.device.type == 'cpu'
    other = Scheduled().half()
    other.load_state_dict({name: torch.full_like(value, 0.5) for name, value in other.state_dict().items()})
    assert other.table.tolist() == [0.5, 0.5]
