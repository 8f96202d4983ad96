"""Buffers keep their data type when their module is cast."""

import pytest
import torch
from torch import nn

from reprefine.models.precision import FullPrecisionBuffers


class Scheduled(FullPrecisionBuffers):
    full_precision = ('schedule', 'absent')

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.register_buffer('schedule', torch.tensor([0.9999, 1e-8]))
        self.register_buffer('other', torch.ones(1))


@pytest.mark.parametrize('cast', [nn.Module.half, nn.Module.bfloat16, lambda m: m.to(torch.float16), nn.Module.double])
def test_a_cast_does_not_change_the_buffer(cast):
    model = nn.Sequential(Scheduled())
    before = model[0].schedule.clone()
    cast(model)
    assert model[0].schedule.dtype == torch.float32
    assert torch.equal(model[0].schedule, before)
    assert model[0].layer.weight.dtype == model[0].other.dtype != torch.float32


def test_the_buffer_is_moved_and_part_of_the_state_dict():
    model = Scheduled().to('meta')
    assert model.schedule.is_meta
    assert model.to_empty(device='cpu').schedule.device.type == 'cpu'
    other = Scheduled().half()
    other.load_state_dict({name: torch.full_like(value, 0.5) for name, value in other.state_dict().items()})
    assert other.schedule.tolist() == [0.5, 0.5]
