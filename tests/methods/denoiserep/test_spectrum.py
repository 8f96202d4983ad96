"""Spectra of layer outputs against covariances computed from all rows; the noise losses that a run logs."""

import numpy as np
import pytest
import torch
from torch import nn

from reprefine.engine.errors import UserError
from reprefine.methods.denoiserep import convert, denoise_layers, reparameterize
from reprefine.methods.denoiserep.conversion.converted import denoise_state
from reprefine.methods.denoiserep.plot import noise_series, plot_noise_losses, plot_spectra
from reprefine.methods.denoiserep.spectrum import feature_spectra

from .toys import TinyConvNet, TinyViT, build, images


def outputs_of(model: nn.Module, names, batch):
    """Rows ``[R, C]`` of the outputs of layers."""
    seen = {}
    for name in names:
        layer = model.get_submodule(name)
        layer.register_forward_hook(lambda _, inputs, output, name=name: seen.update({name: output}))
    with torch.no_grad():
        model(batch)
    dims = {name: 1 if isinstance(model.get_submodule(name), nn.Conv2d) else -1 for name in names}
    return {name: output.movedim(dims[name], -1).flatten(0, -2) for name, output in seen.items()}


@pytest.mark.parametrize(('factory', 'include'), [(TinyViT, 'mlp'), (TinyConvNet, 'conv')])
def test_spectra_are_those_of_the_base_and_of_the_deployed_model(factory, include):
    base, model, batch = build(factory).double().eval(), build(factory).double().eval(), images(6).double()
    convert(model, include, timestep=300)
    names = list(denoise_layers(model))
    deployed = reparameterize(model)
    spectra = feature_spectra(model, lambda: model(batch))
    for side, reference in enumerate((base, deployed)):
        for name, rows in outputs_of(reference, names, batch).items():
            expected = np.linalg.eigvalsh(np.cov(rows.numpy().T, bias=True))[::-1].clip(0)
            np.testing.assert_allclose(spectra[name][side].numpy(), expected, rtol=1e-8, atol=1e-12)
    assert any(not torch.allclose(before, after) for before, after in spectra.values())
    assert denoise_state(model).denoise_eval is True


def test_a_failed_pass_leaves_no_hooks_behind():
    model = build(TinyViT).eval()
    convert(model, 'mlp')
    with pytest.raises(RuntimeError):
        feature_spectra(model, lambda: model(torch.zeros(1, 7)))
    assert denoise_state(model).denoise_eval is True
    assert not any(layer._forward_hooks for layer in denoise_layers(model).values())


def record(step, **noise):
    return {'lr': 0.1, 'step': step, **{f'noise/{layer}': value for layer, value in noise.items()}}


def test_noise_series_has_gaps_where_the_backbone_was_trained():
    last = dict(a=3.0, b=2.0)
    records = [record(10, **last), {'accuracy': 1.0, 'step': 1}, record(20, **last), record(30, **last)]
    series = noise_series([*records, record(40, a=3.0, b=0.5), record(50)])
    np.testing.assert_array_equal(series['a'][0], [10, 20, 30, 40, 50])
    np.testing.assert_array_equal(series['a'][1], [3, np.nan, np.nan, 3, np.nan])
    np.testing.assert_array_equal(series['b'][1], [2, np.nan, np.nan, 0.5, np.nan])


def test_the_error_for_a_run_without_noise_losses_names_the_option():
    with pytest.raises(UserError, match='model.denoise.log_layers=True'):
        noise_series([record(10)])


def test_plots_are_written(tmp_path):
    model, batch = build(TinyViT).eval(), images(4)
    convert(model, 'mlp')
    plot_spectra(feature_spectra(model, lambda: model(batch)), tmp_path / 'spectrum.png')
    plot_noise_losses(noise_series([record(1, a=2.0), record(2, a=1.0)]), tmp_path / 'noise.png')
    assert all((tmp_path / f'{name}.png').stat().st_size > 5000 for name in ('spectrum', 'noise'))
