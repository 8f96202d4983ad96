"""The mechanism experiment of DenoiseRep: its control is exact, its rows are paired, and its noise is removed."""

import pytest
import torch
from torch import nn

from reprefine.methods.denoiserep import collect_moments, convert, denoise_layers, set_layer_steps
from tests.helpers.run_tool import import_beside

TOOL = 'experiments/denoiserep_mechanism.py'
mechanism, models = (import_beside(TOOL, name) for name in ('denoiserep_mechanism', 'denoiserep_models'))


@pytest.fixture(scope='module')
def values():
    return mechanism.measure('mlp', 0, 60)


def test_without_step_everything_is_that_of_the_network_without_noise_predictor(values):
    for layers in ('first', 'all'):
        assert values[f'{layers}: no step'] == values[f'{layers}: no noise predictor']
        assert values[f'{layers}: deterministic, T=999'] != values[f'{layers}: no noise predictor']


def test_the_optimal_predictor_removes_noise_that_controls_do_not(values):
    for timestep in mechanism.TIMESTEPS:
        key, row = f'error_{timestep}', f'first: deterministic, T={timestep}'
        found = values[row][key]
        assert found < 0.9 * values[f'{row}, zero predictor'][key]
        assert found < 0.9 * values[f'{row}, random directions'][key]


def test_every_row_is_compared_with_the_network_without_noise_predictor(values):
    rows = mechanism.make_rows({f'{kind}_0': {**values, 'seconds': 1.0} for kind in mechanism.NETWORKS}, [0])
    assert len(rows) == 2 * len(values)
    names = {row.name for row in rows}
    assert all(row.control in names for row in rows if 'no noise predictor' not in row.name)


def test_noise_does_not_depend_on_the_weights_and_ends_with_the_context():
    model, x = nn.Sequential(nn.Linear(3, 3)), torch.ones(4, 3)
    seen = []
    for _ in range(2):
        with models.noise_on_inputs(model, ['0'], 0.5, 2.0, 7):
            handle = model[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
            model(x)
            handle.remove()
    noise = torch.randn(4, 3, generator=torch.Generator().manual_seed(7))
    assert torch.equal(seen[0], seen[1])
    torch.testing.assert_close(seen[0], 0.5 * x + 2 * noise)
    torch.testing.assert_close(model(x), model[0](x))


def test_random_directions_keep_the_eigenvalues():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 2)).eval()
    convert(model, 'linear', step='selected')
    with torch.no_grad(), collect_moments(model) as moments:
        model(torch.randn(50, 6) * torch.arange(1, 7))
    set_layer_steps(model, moments, {'0': 500}, 'ddim', 0)
    predictor = denoise_layers(model)['0'].denoiser
    before = torch.linalg.eigvalsh(predictor.weight.double())
    optimum = predictor.weight.clone()
    mechanism.rotate_predictors(model, ['0'], moments, 0)
    torch.testing.assert_close(torch.linalg.eigvalsh(predictor.weight.double()), before, rtol=1e-4, atol=1e-6)
    assert (predictor.weight - optimum).abs().max() > 0.01


def test_shifts_are_at_most_one_pixel():
    pixels = torch.zeros(400, 1, 8, 8)
    pixels[:, 0, 4, 4] = 1
    moved = models.shifted(pixels, torch.Generator().manual_seed(0))
    assert moved.sum() == 400
    assert moved[:, 0, 3:6, 3:6].sum() == 400
    assert 200 < moved[:, 0, 4, 4].sum() < 400
