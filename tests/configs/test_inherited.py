"""Configs inherited by name: one of every folder is what it is by path, and one of every method trains and tests."""

from pathlib import Path

import pytest

from reprefine.engine.cli.launch import load_config
from tests.configs.brief import ROOT
from tests.configs.inherited import cheapest, folder_of, inherited, one_of_each_folder
from tests.configs.walk import brief_arguments, train_and_test
from tests.helpers.run import run_train
from tests.helpers.run_tool import run_tool
from tests.methods.dvt.pair_files import write_pairs

PARENTS = sorted(path.name for path in (ROOT / 'configs').iterdir() if path.is_dir() and path.name != '_base_')
# Read what an earlier stage writes, or are no trainings.
STAGES = {path.parent.name: path for path in one_of_each_folder('dvt') if path.parent.name in ('stage1', 'denoiser')}
TRAINED = [cheapest(set(one_of_each_folder(parent)) - set(STAGES.values())) for parent in PARENTS]


@pytest.mark.parametrize('path', one_of_each_folder(*PARENTS), ids=folder_of)
def test_is_the_same_and_passes_the_check(path, tmp_path):
    load_config(str(inherited(path, tmp_path)))


@pytest.mark.parametrize('path', TRAINED, ids=folder_of)
def test_trains_and_tests(path: Path, tmp_path, toy_folder):
    train_and_test(inherited(path, tmp_path), tmp_path / 'run', toy_folder)


def test_denoiser_trains(tmp_path):
    config = inherited(STAGES['denoiser'], tmp_path)
    cfg = load_config(str(config))
    write_pairs(tmp_path, 4, channels=cfg.model.neck.in_channels, model_id=cfg.train_dataloader.dataset.model_id)
    brief = brief_arguments(config, lambda roots: tmp_path)
    assert run_train(str(config), '--work-dir', str(tmp_path / 'run'), *brief) == 0
    assert (tmp_path / 'run/iter_2.pth').is_file()


def test_stage_1_denoises(tmp_path, toy_folder):
    config, images = inherited(STAGES['stage1'], tmp_path), toy_folder(['data/images'])
    brief = ['backbone.pretrained=False', '+backbone.model_args.depth=1', 'stage1.num_views=4', 'native.size=48']
    arguments = ['--data-root', images, '--num', 1, '--out', tmp_path / 'out', '--cfg-options', *brief]
    assert run_tool('denoise_images.py', config, *arguments) == 0
    assert len(list((tmp_path / 'out').rglob('*.npy'))) == 2
