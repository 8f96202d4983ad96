"""Importing a checkpoint of the released code from the command line."""

import pytest
import torch
from torch import nn

from reprefine.engine.build import build_model
from reprefine.engine.cli.launch import load_config
from tests.helpers.run import DENOISED, DIGITS
from tests.helpers.run_tool import run_tool
from tests.methods.denoiserep.published import PublishedLinear, save

TOOL = 'model_converters/import_denoiserep.py'


def test_predictors_are_kept_or_dropped_depending_on_the_config(tmp_path, capsys):
    """On the digits model with the keys of the released code."""
    model = build_model(load_config(DIGITS))
    for name, layer in [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Linear) and '.ffn.' in n]:
        parent, _, attribute = name.rpartition('.')
        setattr(model.get_submodule(parent), attribute, PublishedLinear(layer))
    state = model.state_dict()
    for own, published in (('.layers.0.0.', '.fc1.'), ('.layers.1.', '.fc2.')):
        state = {key.replace(f'ffn{own}', f'ffn{published}'): value for key, value in state.items()}
    file = save(state, tmp_path)
    argv = (TOOL, DENOISED, file)
    rename = ('--rename', r'(ffn)\.fc1\.=\1.layers.0.0.', r'(ffn)\.fc2\.=\1.layers.1.')
    assert run_tool(*argv, tmp_path / 'a.pth', *rename) == 0
    assert 'noise predictors kept' in capsys.readouterr().out
    imported = torch.load(tmp_path / 'a.pth', weights_only=True)['state_dict']
    count = sum(key.endswith('.timestep') for key in imported)
    assert {int(v) for k, v in imported.items() if k.endswith('.timestep')} == {count, count - 1}
    assert run_tool(TOOL, DIGITS, file, tmp_path / 'b.pth', *rename) == 0
    assert f'{count} noise predictors dropped' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('rename', 'message'),
    [
        (('--rename', 'fc1'), '--rename fc1: expected PATTERN=REPLACEMENT'),
        (('--rename', '(=x'), "renaming of '(' is no regular expression"),
        ((), 'has no noise predictor'),
    ],
)
def test_mistakes_are_one_line(rename, message, tmp_path, capsys):
    file = save({'weight': torch.ones(1)}, tmp_path)
    assert run_tool(TOOL, DENOISED, file, tmp_path / 'out.pth', *rename) == 1
    error = capsys.readouterr().err.strip()
    assert message in error.splitlines()[-1]
    assert not (tmp_path / 'out.pth').exists()
