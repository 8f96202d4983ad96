"""Configs that train denoisers, distil them, and those of the demonstration."""

from pathlib import Path

import pytest
import torch

from reprefine.engine.cli.launch import default_work_dir, load_config
from tests.configs.walk import brief_arguments, configs_below, train_and_test
from tests.helpers.run import run_train
from tests.methods.dvt.pair_files import write_pairs

DENOISERS = configs_below('dvt/denoiser')
DEMO = configs_below('dvt/demo')
TRAINED = [path for path in DEMO if '_denoise' not in path.stem]
DISTILLED = configs_below('dvt/distill')


@pytest.fixture(scope='module')
def features(tmp_path_factory):
    """Pairs of every backbone, on a grid of 3x4."""
    folder = tmp_path_factory.mktemp('features')
    for path in [*DENOISERS, *(path for path in DEMO if '_denoiser_' in path.stem)]:
        cfg = load_config(str(path))
        write_pairs(folder, 4, channels=cfg.model.neck.in_channels, model_id=cfg.train_dataloader.dataset.model_id)
    return folder


@pytest.mark.parametrize(
    'path', [*DENOISERS, *(path for path in DEMO if '_denoiser_' in path.stem)], ids=lambda path: path.stem
)
def test_denoiser_trains_and_draws(path, tmp_path, features):
    def folder(roots):
        assert [root.startswith('data/dvt') for root in roots] == [True]
        return features

    brief = brief_arguments(path, folder)
    hook = 'custom_hooks.0.interval=2'
    assert run_train(str(path), '--work-dir', str(tmp_path), *brief, hook) == 0
    checkpoint = torch.load(tmp_path / 'iter_2.pth', weights_only=True)
    assert {name.split('.')[0] for name in checkpoint['state_dict']} == {'neck'}
    model_id = load_config(str(path)).train_dataloader.dataset.model_id
    assert checkpoint['meta']['dataset_meta']['dvt']['model_id'] == model_id
    assert len(list(tmp_path.glob('*/vis_data/vis_image/denoiser_2.png'))) == 1


@pytest.mark.parametrize('path', [*TRAINED, *DISTILLED], ids=lambda path: path.stem)
def test_trains_and_tests(path, tmp_path, toy_folder):
    train_and_test(path, tmp_path, toy_folder)


def test_every_backbone_is_denoised_in_three_ways_and_distilled():
    names = {path.stem.split('_')[0] for path in DENOISERS}
    assert len(names) == 7
    assert len(DENOISERS) == 21
    assert {path.stem.split('_')[0] for path in DISTILLED} == names


@pytest.mark.parametrize(
    'path', [*DISTILLED, *(path for path in DEMO if '-dvt_' in path.stem)], ids=lambda path: path.stem
)
def test_reads_the_denoiser_where_its_training_leaves_it(path):
    neck = load_config(str(path)).model.neck
    folder = path.parents[1] / ('demo' if path.parent.name == 'demo' else 'denoiser')
    (config,) = folder.glob(f'{Path(neck.checkpoint).parts[-2]}.py')
    iterations = load_config(str(config)).train_cfg.max_iters
    assert neck.checkpoint == f'{default_work_dir(str(config))}/iter_{iterations}.pth'
