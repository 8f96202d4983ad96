"""The mechanism experiment of DVT: with the pattern switched off, nothing differs from the features without it."""

import pytest
import torch
from mmengine.config import Config

from reprefine.methods.dvt import Stage1, Stage1Config
from tests.helpers.repository import ROOT
from tests.helpers.run_tool import import_beside

tool = import_beside('experiments/dvt.py', 'dvt_mechanism')
scenes = import_beside('experiments/dvt.py', 'dvt_parts.scenes')
stage1 = import_beside('experiments/dvt.py', 'dvt_parts.stage1')
stage2 = import_beside('experiments/dvt.py', 'dvt_parts.stage2')
probes = import_beside('experiments/dvt.py', 'dvt_parts.compared_probes')
views = import_beside('experiments/dvt.py', 'dvt_parts.compared_views')

SIZES = tool.Sizes(
    train=8,
    test=3,
    images=2,
    compared=1,
    views=(4, 12),
    field_views=(4, 12),
    trained_views=(2, 6),
    field=dict(iterations=20),
    iterations=4,
)


@pytest.fixture(scope='module')
def config():
    """Settings of the small ViT with random weights."""
    cfg = Config.fromfile(ROOT / 'configs/dvt/demo/vit-p4_denoise_96views.py')
    cfg.backbone.pop('checkpoint')
    torch.manual_seed(0)
    return Stage1Config.from_config(cfg)


@pytest.fixture(scope='module')
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp('dvt') / 'scenes'
    scenes.draw_scenes(folder, SIZES.train, SIZES.test, seed=1)
    return [scenes.read_scenes(folder, split) for split in ('training', 'validation')]


def measured(seed, drawn, config, scale):
    torch.manual_seed(7)  # random weights of the ViT
    return probes.compare_features(seed, *drawn, SIZES, config, scale)


def test_labels_are_indices_of_the_recipe(drawn):
    train, test = drawn
    found = torch.cat([labels.flatten() for labels in train.labels]).unique().tolist()
    assert len(scenes.class_names()) == 20 and set(found) <= {*range(20), 255} and len(found) > 8
    assert train.small_labels().shape == (8, 64, 64) and len(test.images) == 3
    assert test.labels[0].shape == test.images[0].shape[:2]


def test_a_pattern_that_is_switched_off_changes_no_probe(drawn, config):
    off, on = (measured(0, drawn, config, scale) for scale in (0.0, 1.0))
    for name in (probes.RAW, probes.DVT, probes.CONTROL):
        assert off[f'pattern {name}'] == off[f'natural {name}'] == on[f'natural {name}'], name
    assert on[f'pattern {probes.RAW}']['fixed'] > on[f'natural {probes.RAW}']['fixed']
    record = tool.probe_record([off, on], 1.0, SIZES)
    assert record.row('known pattern: denoiser').control == 'known pattern: raw features'


def test_the_control_is_trained_to_give_what_it_gets():
    raw = torch.randn(4, 16, 16, 96, generator=torch.Generator().manual_seed(0))
    before, after = (stage2.denoise_features(stage2.train_denoiser(raw, raw, 0, steps), raw) for steps in (1, 60))
    assert (after - raw).square().mean() < 0.5 * (before - raw).square().mean()


def test_fewer_views_are_the_first_of_all_and_the_whole_image(drawn, config):
    built = Stage1(config)
    data = stage1.extract_views(built, drawn[0].images[:1], ['a'])
    part = data.first(5)
    assert torch.equal(part.features[0], data.features[0][[0, 1, 2, 3, 4, -1]])
    assert torch.equal(part.views[0].boxes[-1], torch.tensor([0, 0, 64, 64, 0]))
    assert part.seconds == pytest.approx(data.seconds * 6 / 97)
    whole = stage1.whole_features(built, drawn[0].images[:1])
    assert torch.allclose(data.features[0][-1], whole[0], atol=1e-4)


def test_views_are_compared_with_other_views_and_with_all(drawn, config):
    values = views.compare_solver_views(0, drawn[0].images, SIZES, config)
    assert values['closed form, 12 views']['own'] == values['field, 12 views']['own'] == pytest.approx(1)
    assert values['closed form, 4 views']['own'] < 1
    # The closed form explains a pattern of the token positions exactly, whatever the number of views.
    for count in SIZES.views:
        row = values[f'closed form, {count} views']
        assert row['pattern'] == pytest.approx(row['natural'], abs=0.02)
    assert values['raw features']['pattern'] < values['raw features']['natural']
    probed = {f'pattern {name}': dict(mIoU=1.0) for name in ('raw features', 'closed form, 4 views')}
    record = tool.views_record([values], [probed], 1.0, SIZES)
    assert record.row('closed form, 4 views').control == 'raw features' and not record.row('field, 4 views').control


def test_a_perfect_probe_has_full_scores(drawn):
    labels = [torch.arange(20).repeat_interleave(8).view(16, 10)]
    one_hot = torch.nn.functional.one_hot(labels[0], 20).float()[None]
    result = stage2.evaluate_probe(torch.nn.Identity(), one_hot, scenes.Scenes([], labels))
    assert result == dict(mIoU=100.0, aAcc=100.0)
