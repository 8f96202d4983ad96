"""Plots of chosen timesteps and probes of a teacher, from the command line."""

import csv

import numpy as np
import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler
from PIL import Image

from reprefine.methods.repfusion import plot
from reprefine.methods.repfusion.plot import binned_fractions, plot_timesteps
from reprefine.methods.repfusion.policy.histogram import HISTOGRAM_FILE, STATS, TimestepHistogram, read_histogram
from reprefine.methods.repfusion.teacher.linear_probe import linear_probe_accuracy
from reprefine.visualization import figures as figure_files
from tests.helpers.run import ROOT
from tests.helpers.run_tool import run_tool
from tests.methods.repfusion.tiny import tiny_teacher

PLOT, PROBE = 'analysis_tools/plot_timesteps.py', 'analysis_tools/probe_timesteps.py'
CONFIG = ROOT / 'configs/repfusion/distill/resnet14-narrow_repfusion-rl-hint_30e_mnist5k-32px.py'


def write_run(folder, epochs, best, classes=2):
    """A run whose choices approach ``best``."""
    histogram, generator = TimestepHistogram(100, classes), torch.Generator().manual_seed(best)
    for epoch in range(1, epochs + 1):
        t = (best + torch.randn(200, generator=generator) * 30 / epoch).long().clamp(0, 99)
        labels = torch.arange(200) % classes if classes else None
        histogram.add(t, labels, torch.arange(len(STATS)) + 1.0 / epoch)
        histogram.end_epoch(epoch)
    folder.mkdir()
    histogram.save(folder / HISTOGRAM_FILE)
    return folder


@pytest.fixture
def saved_figures(monkeypatch):
    """The figures that were saved."""
    figures, real = [], figure_files.save_figure
    monkeypatch.setattr(figure_files, 'save_figure', lambda figure, path: (figures.append(figure), real(figure, path)))
    return figures


def test_runs_are_saved_figures_and_written_as_they_are(tmp_path, saved_figures, capsys):
    folders = [write_run(tmp_path / 'a', 4, 20), write_run(tmp_path / 'b', 2, 70)]
    out, table = tmp_path / 'plot.png', tmp_path / 'plot.csv'
    assert (
        run_tool(PLOT, *folders, '--names', 'EMA', 'none', '--bins', 20, '--classes', '--out', out, '--csv', table) == 0
    )
    with Image.open(out) as image:
        assert len(image.convert('RGB').getcolors(1 << 24)) > 50
    axes = {ax.get_ylabel(): ax for ax in saved_figures[0].axes if ax.get_ylabel() in plot.LABELS.values()}
    for stat in ('reward', 'policy_entropy'):
        for line, folder in zip(axes[plot.LABELS[stat]].lines, folders, strict=True):
            np.testing.assert_array_equal(line.get_ydata(), read_histogram(folder).stats[stat])
    rows = list(csv.DictReader(table.open()))
    assert [row['run'] for row in rows] == ['EMA'] * 4 + ['none'] * 2
    assert [float(row['reward']) for row in rows[:4]] == read_histogram(folders[0]).stats['reward'].tolist()
    best = read_histogram(folders[0]).counts[-1].argmax()
    assert f'EMA: epoch 4, t = {best} most often' in capsys.readouterr().out


def test_heat_map_shows_the_shares(tmp_path):
    run = read_histogram(write_run(tmp_path / 'a', 3, 50))
    share, edges = binned_fractions(run.counts, 7)
    np.testing.assert_allclose(share.sum(axis=1), 1)
    for index in range(7):
        np.testing.assert_allclose(share[:, index], run.counts[:, edges[index] : edges[index + 1]].sum(axis=1) / 200)
    mesh = plot_timesteps([run], bins=7).axes[0].collections[0]
    np.testing.assert_allclose(np.asarray(mesh.get_array()).reshape(7, 3), share.T)
    np.testing.assert_array_equal(binned_fractions(run.counts, 500)[0], run.counts / 200)


def test_bad_input_is_one_line(tmp_path, capsys):
    run = write_run(tmp_path / 'a', 2, 20, classes=0)
    (tmp_path / 'corrupted').mkdir()
    (tmp_path / 'corrupted' / HISTOGRAM_FILE).write_bytes((run / HISTOGRAM_FILE).read_bytes()[:200])
    for argv, message in (
        ((tmp_path,), 'has no timestep_hist.npz: train with reprefine.RLTimestepSelectorHook'),
        ((tmp_path / 'corrupted',), 'is corrupted'),
        ((run, '--names', 'a', 'b'), '--names gives 2 names for 1 runs'),
        ((run, '--stats', 'luck'), 'unknown statistic luck'),
        ((run, '--classes'), 'no run has a mean timestep by class'),
        ((run, '--out', tmp_path / 'plot.xyz'), 'cannot be written'),
        ((run, '--bins', 0), '--bins 0'),
    ):
        assert run_tool(PLOT, *argv) == 1
        error = capsys.readouterr().err
        assert message in error
        assert error.count('\n') == 1


def test_linear_probe_separates_classes_but_not_noise():
    generator = np.random.default_rng(0)
    labels = np.arange(300) % 3
    clear = np.eye(3)[labels] + 0.05 * generator.normal(size=(300, 3))
    assert linear_probe_accuracy(clear, labels) == 100
    assert linear_probe_accuracy(generator.normal(size=(300, 3)), labels) < 50


def test_teacher_is_probed_with_the_images_of_a_config(tmp_path, capsys):
    DDPMPipeline(tiny_teacher().unet, DDPMScheduler()).save_pretrained(tmp_path / 'teacher')
    run = write_run(tmp_path / 'run', 2, 40)
    out, table = tmp_path / 'probe.png', tmp_path / 'probe.csv'
    options = f'model.teacher.source={tmp_path}/teacher', 'model.teacher.layers=[[mid_block,16]]'
    argv = CONFIG, '--timesteps', 0, 400, '--images', 200, '--run', run, '--out', out, '--csv', table
    assert run_tool(PROBE, *argv, '--cfg-options', *options) == 0
    assert '200 images, layer mid_block, noise_mode none' in capsys.readouterr().out
    rows = list(csv.DictReader(table.open()))
    assert [int(row['timestep']) for row in rows] == [0, 400]
    for row in rows:
        assert 15 < float(row['accuracy']) <= 100  # digits, even by random weights
        assert 1 <= float(row['rank']) <= 16
    assert rows[0]['rank'] != rows[1]['rank']
    with Image.open(out) as image:
        assert image.width > 500
    assert run_tool(PROBE, *argv, '--whole-maps', '--cfg-options', *options) == 0
    whole = list(csv.DictReader(table.open()))
    assert [row['accuracy'] for row in whole] == [row['accuracy'] for row in rows]
    assert int(rows[0]['width']) == 16 < int(whole[0]['width'])
    assert float(whole[0]['rank']) > float(rows[0]['rank'])
    assert run_tool(PROBE, *argv, '--timesteps', 1000, '--cfg-options', *options) == 1
    assert '--timesteps: timestep 1000 is outside 0..999' in capsys.readouterr().err
