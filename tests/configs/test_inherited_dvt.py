"""A config of every folder of DVT, inherited by name."""

import pytest

from reprefine.engine.launch import load_config
from tests.configs.inherited import folder_of, inherit_and_train, inherited, one_of_each_folder
from tests.configs.walk import brief_arguments
from tests.helpers.run import run_train
from tests.helpers.run_tool import run_tool
from tests.methods.dvt.pair_files import write_pairs

CONFIGS = {path.parent.name: path for path in one_of_each_folder('dvt')}
EVALUATED = [path for name, path in CONFIGS.items() if name not in ('stage1', 'denoiser')]


@pytest.mark.parametrize('path', EVALUATED, ids=folder_of)
def test_trains_and_tests(path, tmp_path, toy_folder):
    inherit_and_train(path, tmp_path, toy_folder)


def test_denoiser_trains(tmp_path):
    config = inherited(CONFIGS['denoiser'], tmp_path)
    cfg = load_config(str(config))
    write_pairs(tmp_path, 4, channels=cfg.model.neck.in_channels, model_id=cfg.train_dataloader.dataset.model_id)
    brief = brief_arguments(config, lambda roots: tmp_path)
    assert run_train(str(config), '--work-dir', str(tmp_path / 'run'), *brief) == 0
    assert (tmp_path / 'run/iter_2.pth').is_file()


def test_stage_1_denoises(tmp_path, toy_folder):
    config, images = inherited(CONFIGS['stage1'], tmp_path), toy_folder(['data/images'])
    brief = ['backbone.pretrained=False', '+backbone.model_args.depth=1', 'stage1.num_views=4', 'native.size=48']
    arguments = ['--data-root', images, '--num', 1, '--out', tmp_path / 'out', '--cfg-options', *brief]
    assert run_tool('dvt/denoise_images.py', config, *arguments) == 0
    assert len(list((tmp_path / 'out').rglob('*.npy'))) == 2
