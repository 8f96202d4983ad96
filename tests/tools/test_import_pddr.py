"""Import of checkpoints of the released code, written here with its keys."""

import re

import pytest
import torch

from reprefine.engine.build import build_model
from reprefine.engine.cli.launch import load_config
from reprefine.methods.pddr.import_published import PARTS
from tests.helpers.run_tool import run_tool
from tests.helpers.tiny_hosts import CLASSIFIER, write_config

TOOL = 'model_converters/import_pddr.py'


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('pddr')
    write_config(folder, CLASSIFIER, 'plain.py')
    for mode in 'AB':
        cfg = f"dict(type='reprefine.PDResNet', pd_cfg=dict(mode='{mode}', group_num='auto', reduction=4))"
        write_config(folder, f"_base_ = './plain.py'\nmodel = dict(backbone={cfg})\n", f'{mode}.py')
    return folder


def published(config: str, prefix: str = 'module.1.', half: bool = True) -> tuple[dict, dict]:
    """Return the state of a model, and the same as the released code would have saved it."""
    torch.manual_seed(0)
    state = build_model(load_config(config)).state_dict()
    published_name = {own: name for name, own in PARTS.items()}
    saved = {}
    for key, value in state.items():
        name = key.removeprefix('backbone.').removeprefix('head.')
        for own, upstream in published_name.items():
            name = re.sub(rf'\.{re.escape(own)}\.', f'.{upstream}.', name)
        saved[prefix + name] = value.half() if half and value.is_floating_point() else value
    return state, saved


@pytest.mark.parametrize(('mode', 'prefix'), [('A', 'module.'), ('B', 'module.1.'), ('B', '1.'), ('A', '')])
def test_every_tensor_is_imported(folder, tmp_path, capsys, mode, prefix):
    config = str(folder / f'{mode}.py')
    state, saved = published(config, prefix)
    assert any('ac_convbn.ver_conv' in key for key in saved)
    torch.save(dict(state_dict=saved, epoch=1), tmp_path / 'published.pth')
    assert run_tool(TOOL, config, tmp_path / 'published.pth', tmp_path / 'imported.pth') == 0
    assert '16 disentangled convolutions' in capsys.readouterr().out
    imported = torch.load(tmp_path / 'imported.pth', weights_only=True)['state_dict']
    assert imported.keys() == state.keys()
    for key, value in imported.items():
        assert value.dtype == state[key].dtype
        assert torch.equal(value, state[key].half().to(value.dtype)), key


def test_keys_can_be_renamed(folder, tmp_path):
    config = str(folder / 'A.py')
    _, saved = published(config)
    torch.save({key.replace('layer1', 'stage1'): value for key, value in saved.items()}, tmp_path / 'other.pth')
    assert run_tool(TOOL, config, tmp_path / 'other.pth', tmp_path / 'x.pth') == 1
    options = ['--rename', 'stage1=layer1']
    assert run_tool(TOOL, config, tmp_path / 'other.pth', tmp_path / 'x.pth', *options) == 0


def test_refusals(folder, tmp_path, capsys):
    _, a = published(str(folder / 'A.py'))
    _, b = published(str(folder / 'B.py'))

    def refusal(config: str, weights: dict, *argv: str) -> str:
        torch.save(weights, tmp_path / 'file.pth')
        assert run_tool(TOOL, folder / config, tmp_path / 'file.pth', tmp_path / 'out.pth', *argv) == 1
        assert not (tmp_path / 'out.pth').exists()
        return capsys.readouterr().err.strip().splitlines()[-1]

    assert "set pd_cfg={'mode': 'B', 'branches': ('standard1'" in refusal('A.py', b)
    assert "set pd_cfg={'mode': 'A'" in refusal('B.py', a)
    narrow = {
        k: v[: len(v) // 2] if '.fc.0.' in k else v[:, : v.shape[1] // 2] if '.fc.2.w' in k else v for k, v in b.items()
    }
    assert "'reduction': 8" in refusal('B.py', narrow)
    pair = {k: v for k, v in a.items() if 'group' not in k}
    assert "('standard1', 'standard2', 'skeleton')}" in refusal('A.py', pair)
    assert 'unexpected: backbone.surplus' in refusal('A.py', a | {'module.surplus': torch.ones(1)})
    assert 'missing: head.fc.bias' in refusal('A.py', {k: v for k, v in a.items() if k != 'module.1.fc.bias'})
    wide = {k: torch.cat([v, v]) if k == 'module.1.fc.weight' else v for k, v in a.items()}
    assert 'of another shape: head.fc.weight' in refusal('A.py', wide)
    assert 'two of its weights get the key' in refusal('A.py', a | {'fc.bias': torch.ones(1)})
    assert 'no regular expression' in refusal('A.py', a, '--rename', '(=x')
    assert 'no branches' in refusal('A.py', {k: v for k, v in a.items() if 'layer1.0.conv1' not in k})
    assert 'no PD convolution' in refusal('plain.py', a)
