"""Counting, timing and memory against closed forms and hand-made cases."""

import time

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from reprefine.engine.cost import compare, workloads
from reprefine.engine.cost.compare import CostComparison
from reprefine.engine.cost.counting import EXTRA_FORMULAS, count_module_costs, count_parameters
from reprefine.engine.cost.inputs import InputBatch, default_shape, loader_batch, random_batch
from reprefine.engine.cost.memory import LiveMemory
from reprefine.engine.cost.models import build_untrained, deployed_copy, without_pretrained
from reprefine.engine.cost.report import make_report, make_table, write_json
from reprefine.engine.cost.rows import Settings
from reprefine.engine.cost.timing import Spread, interleave
from reprefine.engine.errors import UserError
from reprefine.registry import MODELS

HEIGHT, WIDTH, CLASSES, BATCH = 8, 10, 5, 2


@MODELS.register_module(force=True)
class CostNet(BaseModel):
    """A 3x3 convolution without padding, mean pooling and a linear layer."""

    def __init__(self, channels: int = 4):
        super().__init__(data_preprocessor=dict(type='mmengine.ImgDataPreprocessor'))
        self.conv = nn.Conv2d(3, channels, 3)
        self.fc = nn.Linear(channels, CLASSES)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        # The head is called past __call__, as mmdet does.
        scores = self.fc.forward(self.conv(inputs).mean((2, 3)))
        return {'loss': scores.square().mean(), 'loss_list': [scores.sum()]} if mode == 'loss' else scores


@MODELS.register_module(force=True)
class FoldingNet(CostNet):
    """Two parallel linear layers that fold into one."""

    def __init__(self):
        super().__init__()
        self.extra = nn.Linear(4, CLASSES)

    def switch_to_deploy(self):
        self.extra = nn.Identity()


def conv_net_flops(channels: int) -> int:
    return 2 * (HEIGHT - 2) * (WIDTH - 2) * 9 * 3 * channels + 2 * channels * CLASSES


def config(**model) -> Config:
    model = {'type': 'reprefine.CostNet', **model}
    return Config(dict(model=model, optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9))))


def batch() -> InputBatch:
    return random_batch(config(), (HEIGHT, WIDTH), BATCH)


def test_counts_match_the_closed_form():
    total, conv, fc = count_module_costs(build_untrained(config(channels=6)), batch())
    assert total.flops == conv_net_flops(6)
    assert total.parameters == 3 * 6 * 9 + 6 + 6 * CLASSES + CLASSES
    assert (conv.name, conv.flops, conv.parameters) == ('conv', 2 * 6 * 8 * 27 * 6, 168)
    assert (fc.name, fc.parameters) == ('fc', 35)


def test_counting_restores_the_mode_of_the_model():
    model = build_untrained(config())
    count_module_costs(model.train(), batch())
    assert model.training


def test_shared_parameters_count_once():
    layer = nn.Linear(3, 3)
    assert count_parameters(nn.Sequential(layer, layer)) == 12


def test_head_called_past_its_call_is_counted_through_its_children():
    class Head(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 7)

        def forward(self, x):
            return self.layer(x)

    model = build_untrained(config())
    model.fc = Head()
    parts = {part.name: part.flops for part in count_module_costs(model, batch())}
    assert parts['fc'] == 2 * 4 * 7


def test_attention_on_cpu_is_counted():
    query = torch.randn(2, 3, 8, 16)
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=EXTRA_FORMULAS) as counter:
        F.scaled_dot_product_attention(query, query, query)
    assert counter.get_total_flops() == 2 * (2 * 2 * 3 * 8 * 8 * 16)


def test_spread_matches_numpy():
    values = [3.0, 1.0, 10.0, 7.0, 2.5]
    spread = Spread.of(values)
    assert spread.median == np.median(values)
    assert spread.iqr == np.percentile(values, 75) - np.percentile(values, 25)
    assert spread.count == 5


def test_rounds_alternate_and_warm_up_is_dropped(monkeypatch):
    order = []
    clock = iter(range(1000))
    monkeypatch.setattr(time, 'perf_counter', lambda: next(clock))
    candidate, reference = interleave(
        (lambda: lambda: order.append('a'), lambda: lambda: order.append('b')), repeats=3, warmup=1
    )
    assert ''.join(order) == 'ab' + 'ba' + 'ab' + 'ba'
    assert candidate == reference == [1, 1, 1]


def test_preparation_is_not_timed_and_the_device_is_waited_for(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, 'perf_counter', lambda: now[0])

    def spend(seconds):
        now[0] += seconds

    def prepare(seconds):
        spend(100)
        return lambda: spend(seconds)

    # The second wait of a measurement, after its work, belongs to it.
    candidate, reference = interleave((lambda: prepare(2), lambda: prepare(4)), 2, 0, synchronize=lambda: spend(0.5))
    assert candidate == [2.5, 2.5]
    assert reference == [4.5, 4.5]


def test_live_memory_of_a_hand_made_case():
    start = torch.zeros(100)
    with LiveMemory([start]) as memory:
        doubled = start * 2
        view = doubled.view(10, 10)
        view.add_(1)
        assert memory.live == 800
        squared = view * view
        assert memory.live == 1200
        del doubled, view
        assert memory.live == 800
        del squared
        half = start[:50] + 1
    assert (memory.live, memory.peak) == (600, 1200)
    del half
    assert memory.live == 400


def test_live_memory_follows_the_backward_pass():
    weight = torch.ones(10, requires_grad=True)
    with LiveMemory([weight]) as memory:
        # exp saves its result for the backward pass: 40 bytes of weight, 40 of the result, 4 of the sum.
        loss = weight.exp().sum()
        assert memory.live == 84
        loss.backward()
        del loss
    assert weight.grad is not None
    assert memory.live == 80


def compare_nets(candidate: Config, reference: Config, monkeypatch, **settings):
    monkeypatch.setattr(compare, 'loader_batch', lambda cfg, batch_size: batch())
    comparison = CostComparison(candidate, reference, Settings(repeats=3, warmup=1, **settings))
    return comparison, {row.name: row for row in comparison.run()}


def test_a_model_against_itself_has_ratio_one(monkeypatch):
    _, rows = compare_nets(config(), config(), monkeypatch)
    exact = ('parameters', 'forward FLOPs per image', 'inference peak memory', 'training peak memory')
    for name in exact:
        assert rows[name].ratio == Spread(1.0, 0, 1), name
        assert rows[name].config.median > 0
    assert rows['forward FLOPs per image'].config.median == conv_net_flops(4)
    for name in ('training step', 'inference latency per batch'):
        assert rows[name].ratio.count == 3
        assert rows[name].config.median > 0


def test_twice_as_wide_gives_the_closed_form_ratio(monkeypatch):
    _, rows = compare_nets(config(channels=8), config(channels=4), monkeypatch, parts=('flops',))
    assert rows['forward FLOPs per image'].ratio.median == conv_net_flops(8) / conv_net_flops(4) == 2
    assert rows['parameters'].ratio.median == (224 + 45) / (112 + 25)
    assert set(rows) == {'parameters', 'forward FLOPs per image'}


def test_training_memory_holds_gradients_and_momentum(monkeypatch):
    _, rows = compare_nets(config(channels=8), config(channels=4), monkeypatch, parts=('memory',))
    training, inference = rows['training peak memory'], rows['inference peak memory']
    parameters = 4 * (224 + 45)
    assert training.config.median >= inference.config.median + 2 * parameters


def test_mixed_precision_on_a_cpu_is_bfloat16(monkeypatch):
    seen = set()
    forward = torch.nn.Conv2d.forward

    def spy(layer, x):
        y = forward(layer, x)
        seen.add((layer.training, y.dtype))
        return y

    monkeypatch.setattr(torch.nn.Conv2d, 'forward', spy)
    compare_nets(config(), config(), monkeypatch, parts=('train', 'inference'), amp=True)
    assert seen == {(True, torch.bfloat16), (False, torch.bfloat16)}


def test_ratios_are_taken_round_by_round(monkeypatch):
    monkeypatch.setattr(workloads, 'interleave', lambda *args: ([1.0, 9.0, 4.0], [1.0, 3.0, 2.0]))
    _, rows = compare_nets(config(), config(), monkeypatch, parts=('inference',))
    row = rows['inference latency per batch']
    assert row.ratio.median == 2
    assert (row.config.median, row.baseline.median) == (4, 2)


def test_deploy_measures_folded_models_and_trains_unfolded_ones(monkeypatch):
    candidate = config(type='reprefine.FoldingNet')
    comparison, rows = compare_nets(candidate, config(), monkeypatch, deploy=True)
    assert rows['parameters'].ratio.median == 1
    assert {f.form for name, f in rows.items() if name.startswith('training')} == {'as trained'}
    assert rows['inference latency per batch'].form == 'deployed'
    _, rows = compare_nets(candidate, config(), monkeypatch)
    assert rows['parameters'].ratio.median > 1


def test_fold_leaves_the_model_alone():
    model = nn.Sequential(MODELS.build(dict(type='reprefine.FoldingNet'))).train()
    folded = deployed_copy(model)
    assert type(folded[0].extra) is nn.Identity
    assert type(model[0].extra) is nn.Linear
    assert model.training
    assert not folded.training


def test_a_loader_inherited_from_a_host_library_is_built():
    """Inheriting leaves the library's scope beside the collate function."""
    data = torch.utils.data.TensorDataset(torch.arange(6).view(3, 2))
    loader = dict(dataset=data, sampler=dict(type='DefaultSampler', shuffle=False), batch_size=2)
    collate = dict(type='default_collate', _scope_='mmpretrain')
    cfg = Config(dict(train_dataloader=dict(batch_size=2)))
    cfg._cfg_dict['train_dataloader'] = {**loader, 'collate_fn': collate}
    assert torch.equal(loader_batch(cfg).data[0], torch.tensor([[0, 1], [2, 3]]))


def test_two_views_of_an_image_count_once():
    views = [dict(inputs=[torch.zeros(3, 8, 8)] * 2) for _ in range(5)]
    cfg = Config(dict(train_dataloader=dict(batch_size=5)))
    cfg._cfg_dict['train_dataloader'] = dict(
        dataset=views,
        sampler=dict(type='DefaultSampler', shuffle=False),
        batch_size=5,
        collate_fn=dict(type='default_collate'),
    )
    assert loader_batch(cfg).size == 5


def test_missing_data_is_reported_and_random_images_take_its_place(monkeypatch):
    cfg = config()
    comparison = CostComparison(cfg, cfg, Settings(repeats=2, warmup=0, input_shape=(HEIGHT, WIDTH)))
    rows = comparison.run()
    missing = {row.name: row.not_measured for row in rows if row.not_measured}
    assert set(missing) == {'training peak memory', 'training step'}
    assert all('no train_dataloader' in reason for reason in missing.values())
    make_table(rows)
    with pytest.raises(UserError, match='train_dataloader'):
        CostComparison(cfg, cfg, Settings(data_root_given=True))


def test_report_names_what_was_measured(monkeypatch, tmp_path):
    comparison, rows = compare_nets(config(), config(), monkeypatch, parts=('flops',))
    report = make_report(comparison, list(rows.values()), {'batch_size': None})
    assert report['environment']['versions']['torch'] == torch.__version__
    assert report['environment']['threads'] == torch.get_num_threads()
    assert len(report['environment']['load_average']) == 3
    assert report['inputs']['training'] == {'source': 'random images of 8x10', 'batch_size': BATCH}
    write_json(report, tmp_path / 'new' / 'cost.json')
    assert Config.fromfile(tmp_path / 'new' / 'cost.json').figures[0].ratio.median == 1


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(device='toaster'), 'unknown device'),
        pytest.param(
            dict(device='cuda:0'), 'no CUDA', marks=pytest.mark.skipif(torch.cuda.is_available(), reason='has CUDA')
        ),
    ],
)
def test_impossible_settings_are_user_errors(settings, message):
    with pytest.raises(UserError, match=message):
        CostComparison(config(), config(), Settings(**settings))


def test_models_of_different_libraries_are_refused():
    other = config()
    other.default_scope = 'mmdet'
    with pytest.raises(UserError, match='different libraries'):
        CostComparison(config(), other, Settings())


def test_twins_start_from_the_same_weights():
    first, second = (build_untrained(config()).state_dict() for _ in range(2))
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_pretrained_weights_are_left_out():
    parts = [dict(init_cfg=dict(type='Pretrained', checkpoint='x')), dict(type='Kaiming'), dict(checkpoint='x')]
    cfg = Config(dict(pretrained='x', a=parts))
    stripped = without_pretrained(cfg._cfg_dict)
    assert stripped == dict(pretrained=None, a=[dict(init_cfg=None), dict(type='Kaiming'), dict(checkpoint=None)])
    assert cfg.pretrained == 'x'


@pytest.mark.parametrize(
    ('model', 'transform', 'shape'),
    [
        (dict(backbone=dict(img_size=32)), dict(type='Resize', scale=7), (32, 32)),
        (dict(), dict(type='Resize', scale=(1333, 800)), (800, 1333)),
        (dict(), dict(type='TopdownAffine', input_size=(192, 256)), (256, 192)),
        (dict(), dict(type='CenterCrop', crop_size=28), (28, 28)),
        (dict(), dict(type='Pad'), (224, 224)),
    ],
)
def test_default_shape_is_the_size_tested_at(model, transform, shape):
    cfg = Config(dict(model=model, test_dataloader=dict(dataset=dict(pipeline=[transform]))))
    assert default_shape(cfg) == shape
