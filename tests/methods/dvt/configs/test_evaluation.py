"""Configs of linear evaluation with the denoiser: each adds a neck to its baseline, and nothing else."""

import re
from pathlib import Path

import pytest

from reprefine.engine.cli.launch import default_work_dir, load_config
from tests.configs.brief import ROOT
from tests.configs.walk import configs_below
from tests.methods.dvt.configs.variables import without_variables

SEGMENTATION = [path for path in configs_below('dvt/segmentation') if '_linear' in path.stem]
NECKS = [*SEGMENTATION, *(path for path in configs_below('dvt/depth') if 'gradloss' not in path.stem)]


def baseline_of(path: Path) -> Path:
    return ROOT / 'configs/baselines' / path.parent.name / path.name.replace('-dvt', '', 1).replace('-50k_', '_', 1)


@pytest.mark.parametrize('path', NECKS, ids=lambda path: path.stem)
def test_differs_from_its_twin_by_the_neck_alone(path):
    ours, baseline = (load_config(str(p)) for p in (path, baseline_of(path)))
    neck = ours.model.pop('neck')
    assert neck.type == 'reprefine.DVTDenoiser'
    assert neck.get('frozen', True)
    if ours.model.backbone.get('norm') == 'native':
        assert (neck.features.mean, neck.features.std) == (ours.native.mean, ours.native.std)
    assert without_variables(ours) == without_variables(baseline)


def test_every_backbone_meets_every_benchmark():
    names = {path.stem.split('-dvt')[0] for path in NECKS}
    assert len(names) == 7
    plain = {path.stem for path in NECKS if not {'native', 'padding'} & set(re.split('[-_]', path.stem))}
    assert len(plain) == 2 * 21  # with the denoisers of both releases
    assert len(NECKS) == len(plain) + 6


def test_own_statistics_are_for_backbones_that_have_others_and_cropping_for_those_that_pad():
    for path in NECKS:
        cfg = load_config(str(path))
        backbone, native = cfg.model.backbone, cfg.native
        assert ('native' in path.stem) == (backbone.get('norm') == 'native')
        assert ('crop-padding' in path.stem) == backbone.get('crop_padding', False)
        if 'native' in path.stem:
            assert native.mean != [123.675, 116.28, 103.53]
        if 'crop-padding' in path.stem:
            assert 512 % 14 and 'patch14' in backbone.model_name


@pytest.mark.parametrize('path', NECKS, ids=lambda path: path.stem)
def test_the_neck_is_the_one_that_the_denoiser_config_trains(path):
    cfg = load_config(str(path))
    neck, backbone = cfg.model.neck, cfg.model.backbone
    config = ROOT / f'configs/dvt/denoiser/{Path(neck.checkpoint).parts[-2]}.py'
    training = load_config(str(config))
    assert neck.checkpoint == f'{default_work_dir(str(config))}/iter_{training.train_cfg.max_iters}.pth'
    assert (training.model.neck.grid, training.model.neck.in_channels) == (neck.grid, neck.in_channels)
    assert training.train_dataloader.dataset.model_id == neck.features.model_id == backbone.model_name
    side, patch = (518, 14) if 'patch14' in backbone.model_name else (512, 16)
    assert neck.grid == side // patch
