"""The section of the tour on DVT, shortened."""

import re
from dataclasses import replace

import cv2
import pytest

from tests.helpers.run_tool import import_beside

section = import_beside('experiments/tour.py', 'sections.dvt')
mechanism = import_beside('experiments/tour.py', 'dvt_mechanism')
records = import_beside('experiments/tour.py', 'records')


@pytest.fixture(scope='module')
def shown(tmp_path_factory):
    fractions = []
    result = section.run(tmp_path_factory.mktemp('dvt'), fractions.append, images=4, train=16, iterations=60)
    return result, fractions


def test_the_denoiser_removes_what_is_fixed_over_images(shown):
    result, fractions = shown
    rows = [line.split('|')[1:-1] for line in result.number.splitlines()[2:]]
    fixed = {name.strip(): int(value.split()[0]) for name, _, value in rows}
    for name in ('the ViT', 'with a known pattern'):
        assert fixed[f'{name}, denoised'] < fixed[name] - 5  # after a fifth of the training, on few images
    assert fixed['with a known pattern'] > fixed['the ViT']
    assert fractions == sorted(fractions) and fractions[-1] == 1


def test_the_figure_is_readable_on_a_phone(shown):
    (figure,) = shown[0].figures
    height, width, _ = cv2.imread(str(figure.file)).shape
    assert height > width >= 390 and 'denoiser' in figure.caption


def test_limits_quote_the_record():
    rows = []
    for kind, values in (('no pattern', (42.0, 43.0, 42.0)), ('known pattern', (38.0, 40.0, 38.5))):
        for name, value in zip((mechanism.RAW, mechanism.DVT, mechanism.CONTROL), values, strict=True):
            control = None if name == mechanism.RAW else f'{kind}: {mechanism.RAW}'
            rows.append(records.Row(f'{kind}: {name}', dict(mIoU=[value, value + 1]), control))
    used = dict(title='', kind='mechanism', data='', command='', commit='', versions={}, minutes=1, threads=1)
    record = records.Record(seeds=[0, 1], metrics=mechanism.PROBES, rows=rows, **used)
    found = re.findall(r'[+-]?\d+\.\d\d', section.limits_of(record))
    assert found == ['+1.00', '0.00', '+2.00', '0.00', '4.00', '+0.50', '0.00']
    assert '2 seeds' in section.limits_of(record) and section.NOT_REPEATED in section.limits_of(None)
    assert section.NOT_REPEATED not in section.limits_of(replace(record, seeds=[0, 1]))
