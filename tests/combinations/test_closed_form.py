"""The closed form of the noise predictors over models of other methods."""

import pytest
import torch

from reprefine.engine.build import build_model, load_trained
from reprefine.methods.denoiserep.training.fit import expected_noise_losses
from reprefine.methods.denoiserep.training.moments import collect_moments
from tests.combinations import cells, checks
from tests.helpers.run import assert_equal

LOOP = """train_cfg = dict(_delete_=True, type='reprefine.DenoiseFitLoop')
custom_hooks = [hook for hook in custom_hooks if hook['type'] != 'reprefine.DenoisePhaseHook']
"""
STUDENT = 'repfusion/distill/resnet14-narrow_repfusion-uniform-hint_30e_mnist5k-32px'
# Config of the tree, what is denoised, and the shape of an image.
CASES = {
    'PD-A': ('pddr/classification/resnet18-w32-pda_10e_mnist5k', "include=['layer', 'head']", (3, 28, 28)),
    'PD-B': ('pddr/classification/resnet18-w32-pdb_10e_mnist5k', "include='layer'", (3, 28, 28)),
    'PDLinear': ('pddr/classification/mlp-pdb_5e_mnist5k', "include='linear'", (1, 28, 28)),
    'student': (STUDENT, "include='student'", (3, 32, 32)),
}


@pytest.mark.parametrize('case', CASES)
def test_one_pass_sets_every_predictor_and_nothing_else(case, tmp_path, toy_folder):
    base, denoise, shape = CASES[case]
    baseline = cells.brief(cells.tree_config(base), tmp_path, toy_folder)
    start = cells.saved(build_model(cells.config_of(baseline)), tmp_path / 'start.pth')
    options = (f'load_from={start}', 'default_hooks.checkpoint.by_epoch=True')
    cell = cells.denoised(base, f'{denoise}, label_free=True', tmp_path, toy_folder, *options, more=LOOP)
    cells.train(cell)
    model = load_trained(cells.config_of(cell), str(cell.work_dir / 'epoch_1.pth'))
    fitted, kept = model.state_dict(), torch.load(start, weights_only=True)['state_dict']
    assert_equal({name: fitted[name] for name in kept}, dict(kept))
    with collect_moments(model) as moments, torch.no_grad():
        for batch in cells.batches(cell):
            model(**model.data_preprocessor(batch, False), mode='tensor')
    losses = expected_noise_losses(model, moments)
    torch.manual_seed(0)
    begun = expected_noise_losses(build_model(cells.config_of(cell)), moments)
    assert losses.keys() == begun.keys()
    assert all(losses[name] < begun[name] for name in losses), (losses, begun)
    checks.assert_deploys(model, checks.on(torch.randn(8, *shape)))
