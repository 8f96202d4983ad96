"""Parts of a model that start from another one's checkpoint: all of it, or one clear line."""

import pytest
import torch
from mmengine.model import BaseModule
from torch import nn

import reprefine.registry  # noqa: F401, repairs the host libraries
from reprefine.engine.checkpoints.pretrained import check_pretrained, demand_floor
from reprefine.engine.errors import UserError


class Part(BaseModule):
    def __init__(self, width=4, init_cfg=None):
        super().__init__(init_cfg)
        self.first = nn.Linear(2, width)
        self.second = nn.Linear(width, 1)


def whole(path, width=4, **changes):
    start = dict(type='Pretrained', checkpoint=str(path), prefix='student.part.') | changes
    return nn.ModuleDict(dict(inner=Part(width, init_cfg=start), other=nn.Linear(1, 1)))


@pytest.fixture
def checkpoint(tmp_path):
    state = {f'student.part.{key}': value for key, value in Part().state_dict().items()}
    torch.save(dict(state_dict=dict(state, **{'head.weight': torch.zeros(1)})), tmp_path / 'a.pth')
    return tmp_path / 'a.pth'


def test_a_full_match_passes_and_fills_the_part(checkpoint):
    model = whole(checkpoint)
    check_pretrained(model, floor=1.0)
    saved = torch.load(checkpoint, weights_only=True)['state_dict']
    assert torch.equal(model['inner'].first.weight, saved['student.part.first.weight'])


def test_one_missing_tensor_is_refused(checkpoint, tmp_path):
    content = torch.load(checkpoint, weights_only=True)
    del content['state_dict']['student.part.second.bias']
    torch.save(content, tmp_path / 'b.pth')
    with pytest.raises(UserError, match=r'1 missing \(second.bias\); at least 100% needed'):
        check_pretrained(whole(tmp_path / 'b.pth'), floor=1.0)
    check_pretrained(whole(tmp_path / 'b.pth'), floor=0.5)


def test_another_shape_is_refused(checkpoint):
    with pytest.raises(UserError, match=r'3 mis-shaped \(first.weight is \[4, 2\] instead of \[6, 2\], first.bias'):
        check_pretrained(whole(checkpoint, width=6), floor=1.0)


def test_another_prefix_names_what_there_is(checkpoint):
    with pytest.raises(UserError, match="nothing below 'backbone.'; its keys begin with head, student"):
        check_pretrained(whole(checkpoint, prefix='backbone'), floor=0.0)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match='none.pth does not exist'):
        check_pretrained(whole(tmp_path / 'none.pth'), floor=1.0)


def test_parts_without_a_prefix_are_left_to_their_library(tmp_path):
    check_pretrained(whole(tmp_path / 'none.pth', prefix=None), floor=1.0)


def alone(path, width=4):
    return nn.ModuleDict(dict(inner=Part(width, init_cfg=dict(type='Pretrained', checkpoint=str(path)))))


def initialise(model, floor=0.5):
    with demand_floor(model, floor):
        model['inner'].init_weights()


def test_a_part_without_a_prefix_is_filled(tmp_path):
    source = Part()
    torch.save(dict(state_dict=source.state_dict()), tmp_path / 'a.pth')
    model = alone(tmp_path / 'a.pth')
    initialise(model, 1.0)
    assert all(torch.equal(value, source.state_dict()[key]) for key, value in model['inner'].state_dict().items())


def test_a_file_with_other_names_is_refused_instead_of_leaving_random_weights(checkpoint):
    line = r'init_cfg of Part\) belongs to another model: 0.0% of the model filled: 0 keys matched, 4 missing'
    with pytest.raises(UserError, match=line):
        initialise(alone(checkpoint), 0.5)
    initialise(alone(checkpoint), 0.0)
    alone(checkpoint)['inner'].init_weights()  # outside a Runner it is a warning


def test_what_a_refinement_adds_to_a_part_does_not_count(tmp_path):
    class Refined(nn.ModuleDict):
        added_keys = frozenset({'inner.added'})

    torch.save(Part().state_dict(), tmp_path / 'a.pth')
    model = Refined(alone(tmp_path / 'a.pth').items())
    model['inner'].added = nn.Parameter(torch.zeros(1000))
    initialise(model, 1.0)
    model['inner'].is_init = False
    with pytest.raises(UserError, match=r'1 missing \(added\)'):
        initialise(nn.ModuleDict(model.items()), 0.5)
