"""Invalid combinations, each of which is refused in one line that gives the reason."""

import pytest
from mmengine.runner import Runner

from reprefine.engine.build import build_model
from reprefine.engine.cli.launch import load_config
from reprefine.engine.errors import UserError
from tests.combinations import cells

PDA, PDB = (f'pddr/classification/resnet18-w32-pd{mode}_10e_mnist5k' for mode in 'ab')
MLP = 'pddr/classification/mlp-pdb_5e_mnist5k'
MOCO = 'feature_transform/selfsup/moco-v2-ft_resnet14-narrow_12e_mnist5k'
CONV = r'backbone\.layer1\.0\.conv1'
AS_ONE = 'which is denoised as one layer: name that'
BY_ITSELF = 'computes no task loss, but the momentum encoder is updated only in the task loss'
LOOP = """train_cfg = dict(_delete_=True, type='reprefine.DenoiseFitLoop')
val_cfg = val_dataloader = val_evaluator = None
"""
# Config of the tree, options of DenoiseRep over it, and what the line says.
REFUSED = {
    'input of a PDConv': (PDA, "include='conv', side='input'", 'a PDConv, which is denoised at its output only'),
    'input of a PDLinear': (MLP, "include='linear', side='input'", 'a PDLinear, which is denoised at its output only'),
    'branch': (
        PDA,
        "include='standard1'",
        rf"'standard1' names {CONV}\.standard1\.conv, a part of the PDConv {CONV}, {AS_ONE}",
    ),
    'gate beside others': (
        PDB,
        "include=['head', 'gate']",
        rf"'gate' names {CONV}\.gate.*{AS_ONE}",
    ),
    'gate of a PDLinear': (MLP, r"include=r'layers\.0\.fc'", rf'names backbone\.layers\.0\.fc1.*{AS_ONE}'),
    'momentum encoder': (MOCO, "include='encoder_k'", 'part of the moving average encoder_k, which follows the layers'),
    'contrast without its loss': (MOCO, "include='layer', label_free=True", f'label_free=True {BY_ITSELF}'),
    'joint without labels': (PDA, "include='layer', label_free=True, phase='joint'", 'trains predictors only'),
    'kernel': (PDA, "include='layer', kernel_size=3", 'a 3x3 predictor cannot be merged'),
}


@pytest.mark.parametrize('name', REFUSED)
def test_is_refused_in_one_line(name, tmp_path):
    base, denoise, message = REFUSED[name]
    with pytest.raises(UserError, match=message) as caught:
        build_model(load_config(write(tmp_path, base, denoise)))
    assert '\n' not in str(caught.value)


def write(folder, base: str, denoise: str, more: str = '') -> str:
    config = folder / 'refined.py'
    text = cells.REFINED.format(base=cells.tree_config(base), strong='timestep=1', denoise=denoise)
    config.write_text(text + more)
    return str(config)


def test_patterns_that_also_match_convertible_layers_are_accepted(tmp_path):
    """``layer1`` matches PDConvs and their inner layers."""
    model = build_model(load_config(write(tmp_path, PDB, "include='layer1'")))
    assert len(model.added_keys) > 0


def test_the_closed_form_over_a_momentum_encoder(tmp_path, toy_folder):
    write(tmp_path, MOCO, "include='layer'", LOOP)
    cell = cells.brief(tmp_path / 'refined.py', tmp_path / 'run', toy_folder)
    cfg = cells.config_of(cell)
    cfg.work_dir = str(cell.work_dir)
    with pytest.raises(UserError, match=f'DenoiseFitLoop {BY_ITSELF}'):
        Runner.from_cfg(cfg).train()
