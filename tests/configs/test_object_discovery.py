"""Configs of object discovery: each runs, and with the denoiser differs from its twin by the neck alone."""

import pytest

from reprefine.engine.cli.launch import load_config
from tests.configs.brief import ROOT
from tests.configs.walk import configs_below, train_and_test
from tests.methods.dvt.configs.variables import without_variables

NECKS = configs_below('dvt/object_discovery')
BASELINES = configs_below('baselines/object_discovery')


@pytest.mark.parametrize('path', BASELINES + NECKS, ids=lambda path: path.stem)
def test_runs_without_a_checkpoint(path, tmp_path, toy_folder):
    train_and_test(path, tmp_path, toy_folder)


@pytest.mark.parametrize('path', NECKS, ids=lambda path: path.stem)
def test_differs_from_its_twin_by_the_neck_alone(path):
    twin = ROOT / 'configs/baselines/object_discovery' / path.name.replace('-dvt', '', 1)
    ours, theirs = load_config(str(path)), load_config(str(twin))
    assert ours.model.pop('neck').type == 'reprefine.DVTDenoiser'
    assert without_variables(ours) == without_variables(theirs)


def test_every_published_row_has_a_config():
    rows = {tuple(path.stem.split('_')) for path in NECKS}
    models, data = ('vit-b-dinov2-dvt', 'vit-b-dinov2-reg-dvt'), ('voc07', 'voc12', 'coco20k')
    assert rows == {(m, 'lost-norm', d) for m in models for d in data} | {(m, 'lost', 'voc07') for m in models}
    assert len(BASELINES) == len(NECKS)


@pytest.mark.parametrize('path', BASELINES, ids=lambda path: path.stem)
def test_protocol(path):
    cfg = load_config(str(path))
    _, cue, data = path.stem.split('_')
    assert (cfg.model.prominence, cfg.model.num_patches) == ('norm' if cue == 'lost-norm' else 'degree', 100)
    assert cfg.model.data_preprocessor.pad_size_divisor == 14
    assert 'Resize' not in {step.type for step in cfg.test_dataloader.dataset.pipeline}  # images in their own size
    assert cfg.test_evaluator.get('with_ignored', True) == (data != 'coco20k')
    split = dict(voc07='VOC2007/', voc12='VOC2012/', coco20k='train2017')[data]
    assert split in cfg.test_dataloader.dataset.ann_file
