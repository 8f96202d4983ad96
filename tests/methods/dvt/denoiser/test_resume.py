"""Training of a denoiser that is killed and resumed, with an iteration-based loop."""

from tests.helpers.killed import assert_equal_runs, kill_and_resume, train_config

from ..pair_files import write_pairs
from .test_training import CONFIGS


def test_killed_and_resumed_equals_uninterrupted(tmp_path):
    write_pairs(tmp_path / 'features', count=7)
    options = ['train_cfg.max_iters=12', 'default_hooks.checkpoint.interval=5', 'custom_hooks=[]']
    options += ['model.neck.in_channels=64', 'model.neck.grid=4', 'param_scheduler.0.total=20']
    options += ['train_dataloader.batch_size=3', 'default_hooks.logger.interval=2']
    arguments = ('--data-root', str(tmp_path / 'features'), '--cfg-options', *options)
    config = str(CONFIGS / 'vit-b-dinov2_denoiser_8xb8-100k_voc10k.py')
    for runs in kill_and_resume(train_config, config, *arguments, folder=tmp_path):
        assert_equal_runs(*runs)
