"""The tour's section about feature transformation, shortened."""

import re

from tests.helpers.run_tool import import_beside

section = import_beside('experiments/tour.py', 'sections.feature_transform')


def test_positives_are_harder_as_the_formula_says_and_negatives_do_not_rise(tmp_path):
    finished = []
    shown = section.run(tmp_path, finished.append, epochs=1, images=640, draws=300)
    before, after, formula, *negatives = map(float, re.findall(r'-?\d\.\d{3}', shown.number))
    assert after < before - 0.05
    assert abs(after - formula) < 0.1 * (before - after)
    assert max(negatives) - min(negatives) < 0.01
    rows = [line.split('|')[1:-1] for line in shown.number.splitlines()[4:]]
    values = {row[0].strip(): [float(cell) for cell in row[1:]] for row in rows}
    assert values['FT'][0] < values['FT'][1] - 0.05
    assert values['MoCo'][0] == values['MoCo'][1]
    assert finished == sorted(finished)
    assert 0.9 < finished[-1] <= 1
    assert shown.figures[0].file.is_file()
    assert all((shown.what, shown.limits, shown.experiment, shown.own_model))
