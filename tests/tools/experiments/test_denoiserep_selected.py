"""The experiment on the chosen step of DenoiseRep: its controls, its choices, and what it compares."""

import pytest
import torch
from torch import nn

from tests.helpers.run_tool import import_beside

TOOL = 'experiments/denoiserep_selected.py'
NAMES = ('denoiserep_selected', 'denoiserep_models', 'digit_images')
selected, models, digit_images = (import_beside(TOOL, name) for name in NAMES)


@pytest.fixture(scope='module')
def values():
    return selected.measure('digits', True, 0, 30)


def test_every_method_is_tested_on_every_kind_of_images(values):
    methods = [selected.BASELINE, selected.PUBLISHED, selected.SELECTED, selected.SCALED, selected.SHRUNK]
    assert list(values) == [*models.CORRUPTIONS, *selected.LAYER_NOISE]
    assert all(list(found) == methods for found in values.values())
    rows = selected.make_rows({'digits_few_0': values}, [('digits', True)], [0])
    assert {row.name for row in rows} == {f'{c}: {m}' for c in values for m in methods}
    names = {row.name for row in rows}
    assert all(row.control in names for row in rows if selected.BASELINE not in row.name)


def test_a_method_that_chooses_nothing_has_the_accuracy_of_the_baseline(values):
    kept = [
        (found[m][0], found[selected.BASELINE][0]) for found in values.values() for m in found if found[m][1] == 'none'
    ]
    assert all(value == baseline for value, baseline in kept)


def test_controls_have_as_many_candidates():
    count = len(selected.TIMESTEPS) * len(selected.STEPS)
    assert len(selected.FACTORS) == len(selected.RIDGES) == count


def test_singular_values_are_shrunk_and_directions_kept():
    torch.manual_seed(0)
    weight = torch.randn(4, 6)
    u, s, v = torch.linalg.svd(weight, full_matrices=False)
    expected = u @ torch.diag(s * s**2 / (s**2 + 0.3 * s.square().mean())) @ v
    torch.testing.assert_close(selected.shrink_weight(weight, 0.3), expected)
    torch.testing.assert_close(selected.shrink_weight(weight, 0.0), weight)


def test_the_change_that_helps_is_chosen_and_undone():
    """A network that predicts class 1 with its own weights, and class 0, which is right, with their negative."""
    network = nn.Sequential(nn.Linear(4, 2, bias=False))
    network[0].weight.data = torch.tensor([[0.0], [1.0]]).expand(2, 4).clone()
    base, own = models.PixelNet(network, 0.0, 1.0, flat=True), network[0].weight.clone()
    images = digit_images.Images(torch.ones(5, 1, 2, 2), torch.zeros(5, dtype=torch.long))
    images = selected.Measured(images, 0, 0.0)
    layers = {'all': ['0']}
    found = selected.choose_change(base, layers, (0.5, -1.0), selected.scale_weight, images, images)
    assert found == (100.0, '-1.0, layers all')
    assert selected.choose_change(base, layers, (0.5,), selected.scale_weight, images, images) == (0.0, 'none')
    assert torch.equal(network[0].weight, own)


@pytest.mark.parametrize('name', ['noise', 'blur', 'low contrast'])
def test_corruptions_change_the_images_and_repeat(name):
    images, corrupt = digit_images.load_images('digits', 'val'), models.CORRUPTIONS[name]
    found = corrupt(images, 3).pixels
    assert found.shape == images.pixels.shape
    assert (found - images.pixels).abs().mean() > 5
    assert torch.equal(found, corrupt(images, 3).pixels)
    assert torch.equal(models.CORRUPTIONS['clean'](images, 3).pixels, images.pixels)


def test_noise_in_the_layers_changes_the_accuracy_and_is_the_same_for_every_network():
    model = models.train(models.make_network('vit', 'digits', 0), digit_images.load_images('digits', 'train'), 0, 30)
    images = digit_images.load_images('digits', 'val')
    layers = ['backbone.layers.0.ffn.layers.0.0', 'backbone.layers.1.ffn.layers.1']
    assert selected.Measured(images, 3, 0.0).accuracy(model, layers) == models.accuracy(model, images)
    found = [selected.Measured(images, 3, 5.0).accuracy(model, layers) for _ in range(2)]
    assert found[0] == found[1] < models.accuracy(model, images)
