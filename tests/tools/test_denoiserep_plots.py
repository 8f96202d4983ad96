"""Plots of a DenoiseRep run from the command line: noise losses by layer, spectra of features."""

import pytest

from reprefine.visualization.results import read_scalars
from tests.helpers.run import DENOISED, DIGITS, run_train
from tests.helpers.run_tool import run_tool


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('denoised')
    options = [
        'load_from=None',
        'train_cfg.max_epochs=2',
        'custom_hooks.0.phase_length=1',
        'model.denoise.log_layers=True',
    ]
    options += ['train_dataloader.dataset.indices=96', 'default_hooks.logger.interval=1']
    assert run_train(DENOISED, '--work-dir', str(work_dir), '--cfg-options', *options) == 0
    return work_dir


def test_noise_losses_of_the_layers_are_logged_and_add_up(run):
    training = [record for record in read_scalars(run) if 'lr' in record]
    first_epoch = [record for record in training if record['epoch'] == 1]
    assert first_epoch
    for record in first_epoch[:1]:  # later ones are means over the iterations so far
        layers = [value for key, value in record.items() if key.startswith('noise/')]
        assert len(layers) == 6
        assert record['loss_denoise'] == pytest.approx(0.01 * sum(layers), rel=1e-4)


def test_noise_loss_plot(run, tmp_path, capsys):
    out = tmp_path / 'noise.png'
    assert run_tool('analysis_tools/plot_noise_loss.py', run, '--out', out) == 0
    assert capsys.readouterr().out.count(' -> ') == 6
    assert out.stat().st_size > 5000


def test_noise_loss_plot_of_no_run(tmp_path, capsys):
    assert run_tool('analysis_tools/plot_noise_loss.py', tmp_path) == 1
    assert 'has no log of a run' in capsys.readouterr().err


def test_spectrum_plot(run, tmp_path, capsys):
    out = tmp_path / 'spectrum.png'
    arguments = (DENOISED, run / 'epoch_2.pth', '--batches', 2, '--out', out)
    assert run_tool('analysis_tools/plot_feature_spectrum.py', *arguments) == 0
    assert capsys.readouterr().out.count('total variance') == 6
    assert out.stat().st_size > 5000


def test_spectrum_of_a_baseline_is_refused(run, capsys):
    assert run_tool('analysis_tools/plot_feature_spectrum.py', DIGITS, run / 'epoch_2.pth') == 1
    assert 'give a config with reprefine.DenoiseRep' in capsys.readouterr().err


def test_benchmark_prints_its_table(capsys):
    arguments = ('--depth', 1, '--batch-size', 1, '--repeats', 1, '--threads', 1, '--fit-batches', 1)
    assert run_tool('analysis_tools/bench_denoiserep.py', *arguments) == 0
    table = capsys.readouterr().out
    assert table.count('evaluation pass') == table.count('training step') == 3
