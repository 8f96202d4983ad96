"""Training with two gloo processes."""

import subprocess

import torch

from reprefine.engine.resuming.resume import ResumeHook
from tests.helpers import two_processes
from tests.helpers.run import DENOISED, DIGITS, ROOT, SMALL, assert_equal


def keep_weights(work_dir, *argv):
    """Let each rank write what it holds after training on its half of the data, and a random number."""

    def after_train(self, runner):
        content = dict(weights=dict(runner.model.module.state_dict()), draw=torch.rand(()))
        torch.save(content, f'{work_dir}.{runner.rank}.pth')

    ResumeHook.after_train = after_train
    return two_processes.torchrun(work_dir, *argv)


def test_two_processes_hold_identical_weights_and_draw_different_numbers(tmp_path):
    code, said = two_processes.train(tmp_path / 'run', DIGITS, *SMALL, job=keep_weights)
    assert code == 0, said
    first, second, saved = (
        torch.load(path, weights_only=True)
        for path in (tmp_path / 'run.0.pth', tmp_path / 'run.1.pth', tmp_path / 'run' / 'epoch_2.pth')
    )
    assert_equal(first['weights'], second['weights'])
    assert_equal(first['weights'], dict(saved['state_dict']))
    assert first['draw'] != second['draw']
    # 64 images, 2 processes of batch 32: one iteration an epoch
    assert saved['meta']['iter'] == 2


def test_dist_train_runs_denoiserep_over_both_phases(tmp_path):
    options = ['load_from=None', 'train_cfg.max_epochs=2', 'custom_hooks.0.phase_length=1']
    options += ['train_dataloader.dataset.indices=64', 'val_dataloader.dataset.indices=32']
    command = ['bash', 'tools/dist_train.sh', DENOISED, '2', '--work-dir', str(tmp_path), '--cfg-options', *options]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    log = next(tmp_path.glob('*/*.log')).read_text()
    assert 'enters phase "denoise" at epoch 0' in log
    assert 'enters phase "backbone" at epoch 1' in log
    first, second = (torch.load(tmp_path / f'epoch_{epoch}.pth', weights_only=True)['state_dict'] for epoch in (1, 2))
    moved = {key for key in first if not torch.equal(first[key], second[key])}
    assert moved
    assert not any('.denoiser.' in key for key in moved)
    deployed = torch.load(tmp_path / 'epoch_2_deploy.pth', weights_only=True)['state_dict']
    assert not any('.denoiser.' in key for key in deployed)
