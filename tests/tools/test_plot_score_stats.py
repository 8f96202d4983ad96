"""Plotting score statistics from the command line."""

import csv

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from reprefine.methods.feature_transform import score_plots as plot
from reprefine.methods.feature_transform.score_files import ScoreRun, read_run, write_block
from reprefine.methods.feature_transform.score_plots import (
    PlotStyle,
    plot_lines,
    plot_waterfall,
    running_mean,
    select_curve,
)
from reprefine.visualization import figures as figure_files
from tests.helpers.run_tool import run_tool

TOOL = 'analysis_tools/plot_score_stats.py'
KEYS = ('neg_var', 'neg_mean', 'pos_mean', 'pos_var', 'raw_pos_mean')
RNG = np.random.default_rng(0)


def write_run(folder, epochs, length=10):
    for epoch in range(1, epochs + 1):
        iters = np.arange(1, length + 1) + (epoch - 1) * length
        values = {key: RNG.random(length) + index for index, key in enumerate(KEYS)}
        write_block(folder / 'score_stats' / f'epoch_{epoch:03d}.npz', iters, values, dict(epoch_length=length))
    return folder


@pytest.fixture
def saved_figures(monkeypatch):
    """The figures that were saved."""
    figures = []
    real = figure_files.save_figure
    monkeypatch.setattr(figure_files, 'save_figure', lambda figure, path: (figures.append(figure), real(figure, path)))
    return figures


def test_runs_of_different_length_are_saved_figures_as_they_are(tmp_path, saved_figures):
    runs = [write_run(tmp_path / 'long', 3), write_run(tmp_path / 'short', 2)]
    out, table = tmp_path / 'plot.png', tmp_path / 'plot.csv'
    assert run_tool(TOOL, *runs, '--out', out, '--csv', table) == 0
    with Image.open(out) as image:
        assert len(image.convert('RGB').getcolors(1 << 24)) > 10
    rows = list(csv.DictReader(table.open()))
    for folder in runs:
        stored, own = read_run(folder), [row for row in rows if row['run'] == folder.name]
        assert [int(row['iter']) for row in own] == stored.iters.tolist()
        assert [float(row['epoch']) for row in own] == stored.epochs.tolist()
        for key in ('neg_var', 'neg_mean', 'pos_mean'):
            assert np.array_equal([float(row[key]) for row in own], stored.values[key])
    for axes, key in zip(saved_figures[0].axes, ('neg_var', 'neg_mean', 'pos_mean'), strict=True):
        for line, folder in zip(axes.lines, runs, strict=True):
            stored = read_run(folder)
            assert np.array_equal(line.get_xdata(), stored.iters)
            assert np.allclose(line.get_ydata(), stored.values[key])
        assert axes.get_xlabel() == 'iteration'
        assert axes.get_ylabel() == plot.LABELS[key]
    assert [text.get_text() for text in saved_figures[0].legends[0].get_texts()] == ['long', 'short']


def test_options_of_the_lines(tmp_path, saved_figures):
    run = write_run(tmp_path / 'run', 2)
    argv = ('--names', 'mine', '--keys', 'pos_mean', 'pos_var', '--stage', 'ft', '--x', 'epoch', '--start', '0.5')
    argv += ('--band', '--ylim', 'pos_mean:-1,4', '--vlines', '1', '--out', tmp_path / 'a.pdf')
    assert run_tool(TOOL, run, *argv) == 0
    assert (tmp_path / 'a.pdf').read_bytes()[:4] == b'%PDF'
    stored, (mean, variance) = read_run(run), saved_figures[0].axes
    assert mean.get_ylim() == (-1, 4)
    assert mean.lines[1].get_xdata() == [1, 1]
    assert mean.lines[0].get_xdata().tolist() == stored.epochs[5:].tolist()
    (band,), points = mean.collections, stored.values
    top = band.get_paths()[0].vertices[:, 1].max()
    assert top == pytest.approx((points['pos_mean'] + np.sqrt(points['pos_var']))[5:].max(), rel=1e-6)
    assert not variance.collections


def test_raw_stage_and_three_dimensions(tmp_path, saved_figures):
    runs = [write_run(tmp_path / name, 2) for name in ('a', 'b')]
    argv = ('--view', '3d', '--stage', 'raw', '--keys', 'pos_mean', '--start', '4', '--out', tmp_path / 'b.png')
    assert run_tool(TOOL, *runs, *argv) == 0
    (axes,) = saved_figures[0].axes
    for row, (line, folder) in enumerate(zip(axes.lines, runs, strict=True)):
        x, y, z = line.get_data_3d()
        assert set(x) == {row}
        assert y.tolist() == list(range(5, 21))
        assert np.allclose(z, read_run(folder).values['raw_pos_mean'][4:])
    assert [label.get_text() for label in axes.get_xticklabels()] == ['a', 'b']
    assert (axes.get_ylabel(), axes.get_zlabel()) == (
        'iteration',
        'mean score of positives before the transform',
    )


def test_published_folder_is_read(tmp_path):
    scores = RNG.random((7, 4, 5))
    np.save(tmp_path / 'score_001.npy', scores)
    assert run_tool(TOOL, tmp_path, '--out', tmp_path / 'p.png', '--csv', tmp_path / 'p.csv') == 0
    rows = list(csv.DictReader((tmp_path / 'p.csv').open()))
    assert np.allclose([float(row['neg_var']) for row in rows], scores[:, :, 1].mean(1))
    assert np.allclose([float(row['pos_mean']) for row in rows], scores[:, :, 2].mean(1))


@pytest.mark.parametrize('width', [1, 2, 3, 7, 50])
def test_smoothing_is_a_centred_mean_over_what_exists(width):
    values, reach = RNG.random(20), width // 2
    expected = [values[max(i - reach, 0) : i + reach + 1].mean() for i in range(20)]
    assert np.allclose(running_mean(values, width), expected)


def test_smoothing_comes_before_the_cut():
    run = ScoreRun('r', np.arange(1, 6), None, dict(x=np.array([0.0, 0, 9, 0, 0])), {})
    places, values = select_curve(run, 'x', PlotStyle(start=3, smooth=3))
    assert places.tolist() == [4, 5]
    assert np.allclose(values, [3, 0])
    for draw in (plot_lines, plot_waterfall):
        assert isinstance(draw([run], ['x'], PlotStyle()), Figure)


@pytest.mark.parametrize(
    ('argv', 'message'),
    [
        (('absent',), 'absent is not a folder'),
        (('.',), 'has no score statistics'),
        (('run', '--keys', 'pos'), 'run has no pos: use one of neg_var'),
        (('run', '--stage', 'raw'), 'run has no raw_neg_var'),
        (('run', '--names', 'a', 'b'), '--names gives 2 names for 1 runs'),
        (('run', '--ylim', 'neg_mean=0'), '--ylim neg_mean=0: expected KEY:LO,HI'),
        (('run', '--start', '99'), 'run ends before iter 99'),
        (('run', '--out', 'plot.xyz'), 'plot.xyz cannot be written'),
    ],
)
def test_mistakes_are_one_line(argv, message, tmp_path, monkeypatch, capsys):
    write_run(tmp_path / 'run', 1)
    monkeypatch.chdir(tmp_path)
    assert run_tool(TOOL, *argv) == 1
    error = capsys.readouterr().err.strip()
    assert message in error.splitlines()[-1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ['run']
