"""The section of RepFusion in the tour."""

import re

from tests.helpers.run_tool import TOOLS, import_beside

section = import_beside('experiments/tour.py', 'sections.repfusion')


def test_the_policy_selects_the_useful_timestep_and_its_student_learns_the_features(tmp_path):
    fractions = []
    shown = section.run(tmp_path, fractions.append, epochs=7)
    assert fractions == sorted(fractions) and fractions[-1] < 1
    assert all(figure.file.is_file() for figure in shown.figures)
    rows = re.findall(r'^\| ([a-z ]+) \| (-?[\d.]+) \| ([\d.]+) % \|$', shown.number, re.MULTILINE)
    values = {name: (float(r2), float(accuracy)) for name, r2, accuracy in rows}
    assert list(values) == ['before', 'uniform t', 'policy']
    assert values['policy'][0] > 0.5 > values['uniform t'][0]
    assert values['policy'][1] > max(values['uniform t'][1], values['before'][1])
    share = int(re.search(r'for (\d+) % of the images', shown.figures[0].caption)[1])
    assert share > 50
    assert (TOOLS.parent / shown.experiment.split()[1]).is_file()
    assert 'labels' in shown.limits and shown.minutes >= 1
