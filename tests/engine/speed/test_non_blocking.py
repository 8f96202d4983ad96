"""Batches are copied with non_blocking from pinned memory to a GPU, unless the config sets it."""

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseDataPreprocessor, ImgDataPreprocessor
from torch import nn

from reprefine.engine.speed.non_blocking import set_non_blocking, should_copy_non_blocking


def config(pin=True, **data_preprocessor):
    return Config(dict(train_dataloader=dict(pin_memory=pin), model=dict(parts=[dict(a=data_preprocessor)])))


@pytest.mark.parametrize(
    ('gpu', 'cfg', 'expected'),
    [
        (True, config(), True),
        (False, config(), False),
        (True, config(pin=False), False),
        (True, Config(dict(model=dict())), False),
        (True, config(non_blocking=False), False),
    ],
)
def test_only_from_pinned_memory_to_a_gpu(monkeypatch, gpu, cfg, expected):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: gpu)
    assert should_copy_non_blocking(cfg) is expected


def test_every_preprocessor_of_the_model_passes_the_flag(monkeypatch):
    model = nn.ModuleDict(dict(a=BaseDataPreprocessor(), b=nn.ModuleDict(dict(c=ImgDataPreprocessor()))))
    flags = []
    monkeypatch.setattr(torch.Tensor, 'to', lambda tensor, device, non_blocking: flags.append(non_blocking) or tensor)
    model['b']['c'].cast_data([torch.ones(1)])
    set_non_blocking(model)
    for preprocessor in (model['a'], model['b']['c']):
        preprocessor.cast_data(dict(inputs=[torch.ones(1)]))
    assert flags == [False, True, True]
