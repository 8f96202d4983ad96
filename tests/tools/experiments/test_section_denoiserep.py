"""The section of DenoiseRep in the tour: shortened to two levels of noise in the layers."""

import pytest

from tests.helpers.run_tool import import_beside

TOOL = 'experiments/tour.py'
denoiserep = import_beside(TOOL, 'sections.denoiserep')
models, digit_images = (import_beside(TOOL, name) for name in ('denoiserep_models', 'digit_images'))


@pytest.fixture(scope='module')
def measured():
    fractions = []
    result = denoiserep.measure((0.0, 0.75), fractions.append)
    assert fractions == [0.5, 1.0]
    return result


def test_the_merged_network_computes_what_the_unmerged_does(measured):
    assert measured[2] < 1e-4


def test_the_step_is_chosen_by_the_validation_images(measured):
    found, choices, _ = measured
    clean, noisy = found[0.0], found[0.75]
    assert clean[0] > 90 > noisy[0]
    assert all(row[0] == row[2] for level, row in found.items() if choices[level] == 'none')
    assert noisy[2] > noisy[0] + 2


def test_the_shipped_network_is_the_baseline_of_the_config():
    model = denoiserep.trained_network()
    assert models.accuracy(model, digit_images.load_images('digits', 'val')) > 93


def test_the_section_has_figure_table_and_limits(measured, tmp_path, monkeypatch):
    monkeypatch.setattr(denoiserep, 'measure', lambda levels, progress: measured)
    section = denoiserep.run(tmp_path, print)
    assert section.figures[0].file.is_file()
    assert section.number.count('\n| ') == 2 + section.number.count('\n| ---')
    assert '| clean |' in section.limits
    assert section.minutes >= 1
