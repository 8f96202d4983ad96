"""The section of PDDR in the tour."""

import re

import pytest
import torch

from reprefine.deploy import relative_difference
from reprefine.methods.pddr import PDConv
from tests.helpers.run_tool import import_beside

section = import_beside('experiments/tour.py', 'sections.pddr')
forms = import_beside('experiments/tour.py', 'sections.pddr_forms')


def test_the_shipped_network_is_equal_in_both_forms():
    images = forms.normalized(section.digits('test')[0][:32])
    network = forms.trained_network()
    convs = [module for module in network.modules() if isinstance(module, PDConv)]
    with torch.no_grad():
        expected = network(images)
        network.backbone.switch_to_deploy()
        assert all(conv.deploy for conv in convs) and len(convs) == 12
        assert relative_difference(network(images), expected) < 1e-5


def test_the_section_is_computed_and_has_its_figure(tmp_path):
    finished = []
    shown = section.run(tmp_path, finished.append, images=200, rounds=2, epochs=4)
    assert finished == sorted(finished) and finished[0] > 0 and finished[-1] <= 1
    assert shown.figures[0].file.stat().st_size > 10_000 and '{' not in shown.what + shown.limits
    training, deployed = re.findall(r'\| ([\d,]+) \| ([\d.]+) \|', shown.number)
    assert int(training[0].replace(',', '')) > 2 * int(deployed[0].replace(',', ''))
    assert training[1] == deployed[1] and float(training[1]) > 80
    assert float(re.search(r'outputs: ([\de.-]+);', shown.number)[1]) < 1e-3
    scores = [float(score) for score in re.findall(r'([\d.]+) %', shown.number)]
    assert len(scores) == 4 and scores[2] > 70 and max(scores[0], scores[1], scores[3]) < 30, scores
    assert re.search(r'gains? [+-]\d.*points', shown.limits.replace('\n', ' '))


@pytest.mark.parametrize('rounds', [1, 4])
def test_latency_is_a_time_for_each_network(rounds):
    times = forms.latencies((torch.nn.Identity(), torch.nn.Flatten()), torch.zeros(1, 3), rounds)
    assert len(times) == 2 and all(0 <= time < 1000 for time in times)
