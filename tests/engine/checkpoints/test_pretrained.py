"""Modules that start from a checkpoint of another model load all of it, or raise an error of one line."""

import logging

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.model import BaseModule
from torch import nn

import reprefine.registry  # noqa: F401, lets mmengine's checkpoints be read
from reprefine.engine.checkpoints.pretrained import require_load_ratio
from reprefine.engine.errors import UserError


class Part(BaseModule):
    def __init__(self, width=4, init_cfg=None):
        super().__init__(init_cfg)
        self.first = nn.Linear(2, width)
        self.second = nn.Linear(width, 1)


def model_from(path, width=4, **changes):
    start = dict(type='Pretrained', checkpoint=str(path), prefix='student.part.') | changes
    return nn.ModuleDict(dict(inner=Part(width, init_cfg=start), other=nn.Linear(1, 1)))


@pytest.fixture
def checkpoint(tmp_path):
    state = {f'student.part.{key}': value for key, value in Part().state_dict().items()}
    torch.save(dict(state_dict=dict(state, **{'head.weight': torch.zeros(1)})), tmp_path / 'a.pth')
    return tmp_path / 'a.pth'


def initialise(model, min_ratio=0.5):
    with require_load_ratio(min_ratio):
        model['inner'].init_weights()


@pytest.fixture
def log():
    """Lines of the log about the checkpoints of modules."""
    lines = []
    handler = logging.Handler(logging.INFO)
    handler.emit = lambda record: lines.append((record.levelname, record.getMessage()))
    handler.addFilter(lambda record: ' starts from ' in record.getMessage())
    logger = MMLogger.get_instance('pretrained')
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)


def test_a_full_match_loads_the_module(checkpoint):
    model = model_from(checkpoint)
    initialise(model, min_ratio=1.0)
    saved = torch.load(checkpoint, weights_only=True)['state_dict']
    assert torch.equal(model['inner'].first.weight, saved['student.part.first.weight'])


def test_a_full_match_is_a_line_of_the_log(checkpoint, tmp_path, log):
    torch.save(Part().state_dict(), tmp_path / 'b.pth')
    initialise(model_from(checkpoint), min_ratio=1.0)
    initialise(alone(tmp_path / 'b.pth'), min_ratio=1.0)
    sources = (f"{checkpoint} ('student.part.')", tmp_path / 'b.pth')
    assert log == [('INFO', f'Part starts from {s}: 100.0% of the model loaded: 4 keys matched') for s in sources]


def test_one_missing_tensor_is_refused(checkpoint, tmp_path):
    content = torch.load(checkpoint, weights_only=True)
    del content['state_dict']['student.part.second.bias']
    torch.save(content, tmp_path / 'b.pth')
    with pytest.raises(UserError, match=r'1 missing \(second.bias\); at least 100% needed'):
        initialise(model_from(tmp_path / 'b.pth'), min_ratio=1.0)
    initialise(model_from(tmp_path / 'b.pth'), min_ratio=0.5)


def test_another_shape_is_refused(checkpoint):
    with pytest.raises(UserError, match=r'3 size mismatch \(first.weight is \[4, 2\] instead of \[6, 2\], first.bias'):
        initialise(model_from(checkpoint, width=6), min_ratio=1.0)


def test_another_prefix_names_the_keys_and_a_prefix_that_matches(checkpoint):
    line = r"nothing below 'backbone.'; its keys begin with head, student; .*'student.part.' removed .* 4 of 4 keys"
    with pytest.raises(UserError, match=line):
        initialise(model_from(checkpoint, prefix='backbone'), min_ratio=0.0)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match='none.pth does not exist'):
        initialise(model_from(tmp_path / 'none.pth'), min_ratio=1.0)


def test_entry_and_key_names_can_be_selected(tmp_path):
    source = Part()
    state = {f'module.net.{key}': value for key, value in source.state_dict().items()}
    torch.save(dict(teacher=state, model={}), tmp_path / 'a.pth')
    options = dict(checkpoint_key='teacher', revise_keys=[(r'^module\.', '')], prefix='net')
    model = model_from(tmp_path / 'a.pth', **options)
    initialise(model, min_ratio=1.0)
    assert torch.equal(model['inner'].second.weight, source.second.weight)
    with pytest.raises(UserError, match=f"{tmp_path / 'a.pth'} has no weights under the key 'ema'; it has teacher$"):
        initialise(model_from(tmp_path / 'a.pth', **options | dict(checkpoint_key='ema')), min_ratio=0.0)


def alone(path, width=4):
    return nn.ModuleDict(dict(inner=Part(width, init_cfg=dict(type='Pretrained', checkpoint=str(path)))))


def test_a_module_without_a_prefix_is_loaded(tmp_path):
    source = Part()
    torch.save(dict(state_dict=source.state_dict()), tmp_path / 'a.pth')
    model = alone(tmp_path / 'a.pth')
    initialise(model, 1.0)
    assert all(torch.equal(value, source.state_dict()[key]) for key, value in model['inner'].state_dict().items())


def test_a_file_with_other_keys_is_refused(checkpoint):
    line = r'init_cfg of Part\) belongs to another model: 0.0% of the model loaded: 0 keys matched, 4 missing'
    with pytest.raises(UserError, match=line):
        initialise(alone(checkpoint), 0.5)
    initialise(alone(checkpoint), 0.0)
    alone(checkpoint)['inner'].init_weights()  # outside a Runner it is a warning


class Addition(nn.Module):
    added_by_refinement = True

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1000))


def test_parts_added_by_a_refinement_do_not_count(tmp_path):
    torch.save(Part().state_dict(), tmp_path / 'a.pth')
    model = alone(tmp_path / 'a.pth')
    model['inner'].first.own = Addition()
    initialise(model, 1.0)
    model = alone(tmp_path / 'a.pth')
    model['inner'].first.own = nn.Linear(1, 1)
    with pytest.raises(UserError, match=r'2 missing \(first.own.weight, first.own.bias\)'):
        initialise(model, 1.0)
