"""Reparameterisation of PDDR checkpoints from the command line, for every kind of model."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from reprefine.engine.build import build_model
from reprefine.engine.checkpoints.checkpoint import read_checkpoint
from reprefine.engine.cli.launch import load_config
from reprefine.engine.cost.counting import forward
from reprefine.engine.cost.inputs import random_batch
from tests.helpers.run_tool import run_tool
from tests.helpers.tiny_hosts import CONFIGS, write_config, write_images

TREE = Path(__file__).parents[2] / 'configs'
TOOL = 'model_converters/reparameterize_model.py'
BACKBONE = "dict(type='reprefine.PDResNet', pd_cfg=dict(mode='{mode}', group_num='auto'), deploy={deploy})"
SHAPE = ('--shape', 64, 96)
# A detector that finds something though it is untrained.
MORE = {'mmdet': ', test_cfg=dict(score_thr=0.0, nms_pre=50)'}


def write_pair(folder, host: str, mode: str) -> tuple[str, str, str]:
    """Write the plain config of a library, and the two forms that inherit it."""
    plain = write_config(folder, CONFIGS[host], 'plain.py')
    names = [plain]
    for form, deploy in (('train', False), ('deploy', True)):
        backbone = BACKBONE.format(mode=mode, deploy=deploy)
        if host == 'mmseg':  # its ResNet is a part of the backbone
            backbone = f'dict(backbone_cfg={backbone})'
        text = f"_base_ = './plain.py'\nmodel = dict(backbone={backbone}{MORE.get(host, '')})\n"
        names.append(write_config(folder, text, f'{form}.py'))
    return tuple(names)


@torch.no_grad()
def save_trained(config: str, path) -> nn.Module:
    """Save a checkpoint as training leaves it: moving average and optimiser beside uneven weights."""
    torch.manual_seed(0)
    model = build_model(load_config(config))
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.normal_(module.running_mean, 0, 0.1)
            nn.init.uniform_(module.weight, 0.1, 0.6)
    source = {f'module.{name}': torch.zeros_like(value) for name, value in model.state_dict().items()}
    state = dict(state_dict=model.state_dict(), ema_state_dict=source, optimizer=dict(state={}), meta=dict(epoch=7))
    torch.save(state | dict(message_hub=dict()), path)
    return model


def predictions(config: str, checkpoint) -> list[torch.Tensor]:
    cfg = load_config(config)
    model = build_model(cfg)
    model.load_state_dict(read_checkpoint(str(checkpoint))['state_dict'])  # strict
    model.eval()
    data = model.data_preprocessor(random_batch(cfg, (64, 96), 2).data, False)
    with torch.no_grad():
        outputs = forward(model, data, 'predict')
    return [value for sample in outputs for value in tensors(sample.to_dict())]


def tensors(tree) -> list[torch.Tensor]:
    if hasattr(tree, 'to_dict'):
        tree = tree.to_dict()
    if isinstance(tree, dict):
        return [t for key in sorted(tree) for t in tensors(tree[key])]
    if torch.is_tensor(tree):
        return [tree]
    return [torch.as_tensor(tree)] if hasattr(tree, 'dtype') else []


@pytest.mark.parametrize(('host', 'mode'), [('mmpretrain', 'A'), ('mmpretrain', 'B'), ('mmdet', 'B'), ('mmseg', 'A')])
def test_folded_model_predicts_the_same(host, mode, tmp_path, capsys):
    _, train, deploy = write_pair(tmp_path, host, mode)
    trained, out = tmp_path / 'trained.pth', tmp_path / 'deployed.pth'
    model = save_trained(train, trained)
    assert run_tool(TOOL, train, trained, out, *SHAPE) == 0
    printed = capsys.readouterr().out
    assert 'moving average of the run' in printed
    written = torch.load(out, weights_only=True)
    assert set(written) == {'meta', 'state_dict'}
    assert set(written['meta']) == {'epoch', 'deployed'}
    assert set(written['meta']['deployed'].values()) == {'PDConv'}
    assert f'parameters {sum(p.numel() for p in model.parameters()):,} -> ' in printed
    assert 'and the model for random images of ' in printed
    deployed, expected = predictions(deploy, out), predictions(train, trained)
    assert len(deployed) > 1
    for a, b in zip(deployed, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    converted = predictions(deploy, trained)  # loading reparameterises, too
    assert all(torch.equal(a, b) for a, b in zip(deployed, converted, strict=True))


@pytest.mark.parametrize('host', ['mmpretrain', 'mmseg'])
@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_plain_export_fits_the_untouched_config(host, suffix, tmp_path):
    plain, train, _ = write_pair(tmp_path, host, 'A')
    trained, out = tmp_path / 'trained.pth', tmp_path / f'plain{suffix}'
    save_trained(train, trained)
    given = ['--plain-config', plain] if host == 'mmseg' else ['--export-plain']
    assert run_tool(TOOL, train, trained, out, *SHAPE, *given) == 0
    for a, b in zip(predictions(plain, out), predictions(train, trained), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize('mode', ['A', 'B'])
def test_two_methods_are_reparameterised_together(mode, tmp_path, capsys):
    plain, train, deploy = write_pair(tmp_path, 'mmpretrain', mode)
    refined = "model = dict(type='reprefine.DenoiseRep', base_type='ImageClassifier', denoise=dict(include='all'))"
    both = write_config(tmp_path, f"_base_ = './train.py'\n{refined}\n", 'both.py')
    trained, out = tmp_path / 'trained.pth', tmp_path / 'out.pth'
    model = save_trained(both, trained)
    for name, parameter in model.named_parameters():
        if 'denoiser' in name:
            nn.init.normal_(parameter, std=0.1)
    torch.save(dict(state_dict=model.state_dict()), trained)
    assert run_tool(TOOL, both, trained, out) == 0
    printed = capsys.readouterr().out
    assert '(DenoiseConv2d, DenoiseLinear, DenoisePDConv)' in printed
    forms = [(deploy, out)]
    if mode == 'A':
        assert run_tool(TOOL, both, trained, tmp_path / 'plain.pth', '--export-plain') == 0
        forms.append((plain, tmp_path / 'plain.pth'))
    expected = predictions(both, trained)
    for form in forms:
        for a, b in zip(predictions(*form), expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_onnx(tmp_path, capsys):
    onnx = pytest.importorskip('onnx')
    pytest.importorskip('onnxruntime')
    _, train, _ = write_pair(tmp_path, 'mmpretrain', 'A')
    save_trained(train, tmp_path / 'trained.pth')
    argv = [train, tmp_path / 'trained.pth', tmp_path / 'out.pth', '--onnx', tmp_path / 'net.onnx']
    assert run_tool(TOOL, *argv) == 0
    assert 'the whole model, for any number of images of 3x32x40; onnxruntime equals' in capsys.readouterr().out
    graph = onnx.load(str(tmp_path / 'net.onnx')).graph
    assert sum(node.op_type == 'Conv' for node in graph.node) == 20  # stem, 16 blocks' and 3 shortcuts'
    for file in ('out.pth', 'net.onnx'):
        (tmp_path / file).unlink()
    assert run_tool(TOOL, *argv, '--dynamic', *SHAPE) == 0
    assert 'for any number of images of any size' in capsys.readouterr().out


def test_an_export_that_fails_leaves_nothing(tmp_path, capsys):
    pytest.importorskip('onnxruntime')
    _, train, _ = write_pair(tmp_path, 'mmpretrain', 'A')
    save_trained(train, tmp_path / 'trained.pth')
    before = sorted(tmp_path.iterdir())
    argv = [train, tmp_path / 'trained.pth', tmp_path / 'out.pth']
    assert run_tool(TOOL, *argv, '--onnx', tmp_path / 'net.onnx', '--onnx-tolerance', -1) == 1
    assert 'onnxruntime differs by' in capsys.readouterr().err
    assert run_tool(TOOL, *argv, '--dynamic') == 1
    assert '--dynamic is an option of the ONNX export' in capsys.readouterr().err
    (tmp_path / 'present.onnx').touch()
    assert run_tool(TOOL, *argv, '--onnx', tmp_path / 'present.onnx') == 1
    assert 'present.onnx exists' in capsys.readouterr().err
    (tmp_path / 'present.onnx').unlink()
    assert sorted(tmp_path.iterdir()) == before


def test_what_cannot_be_folded_is_refused_and_nothing_written(tmp_path, capsys):
    plain, train, deploy = write_pair(tmp_path, 'mmpretrain', 'B')
    trained, out = tmp_path / 'trained.pth', tmp_path / 'out.pth'
    save_trained(train, trained)

    def refusal(*argv) -> str:
        assert run_tool(TOOL, *argv) == 1
        assert not out.exists()
        return capsys.readouterr().err.strip().splitlines()[-1]

    assert 'layer1.0.conv1 is PD-B: its weights depend on the sample' in refusal(train, trained, out, '--export-plain')
    assert 'the model of the config has no deployable layer' in refusal(plain, trained, out)
    assert 'no baseline config can be derived from the config' in refusal(plain, trained, out, '--export-plain')
    assert 'the config builds the deployed form already' in refusal(deploy, trained, out)
    assert 'absent.pth does not exist' in refusal(train, tmp_path / 'absent.pth', out)
    assert 'data_root' in refusal(train, trained, out, '--data-root', tmp_path / 'absent')
    state = torch.load(trained, weights_only=True)
    del state['state_dict']['head.fc.weight']
    torch.save(state, tmp_path / 'cut.pth')
    assert '1 missing (head.fc.weight' in refusal(train, tmp_path / 'cut.pth', out)
    assert run_tool(TOOL, train, trained, out) == 0
    content = out.read_bytes()
    assert run_tool(TOOL, train, trained, out) == 1
    assert out.read_bytes() == content
    out.rename(tmp_path / 'deployed.pth')
    assert 'deployed.pth is deployed already (PDConv)' in refusal(train, tmp_path / 'deployed.pth', out)


def test_a_deployed_model_that_differs_is_not_written(tmp_path, capsys, monkeypatch):
    _, train, _ = write_pair(tmp_path, 'mmpretrain', 'A')
    save_trained(train, tmp_path / 'trained.pth')
    from reprefine.methods.pddr import PDConv

    equivalent = PDConv.equivalent_kernels_biases

    def wrong(self):
        kernels, biases = equivalent(self)
        return kernels, biases + 1e-3

    monkeypatch.setattr(PDConv, 'equivalent_kernels_biases', wrong)
    argv = [train, tmp_path / 'trained.pth', tmp_path / 'out.pth']
    assert run_tool(TOOL, *argv) == 1
    pattern = (
        r'trained.pth: the deployed form of backbone\.layer\S+ differs by \S+ of its largest output, more than 1.0e-05'
    )
    assert re.search(pattern, capsys.readouterr().err)
    assert not (tmp_path / 'out.pth').exists()
    assert run_tool(TOOL, *argv, '--tolerance', 0.5) == 0
    assert '(tolerance 5e-01), on 16 layers and the model for random images' in capsys.readouterr().out


def test_images_of_the_test_set(tmp_path, capsys):
    _, train, _ = write_pair(tmp_path, 'mmpretrain', 'A')
    save_trained(train, tmp_path / 'trained.pth')
    write_images(tmp_path)
    assert run_tool(TOOL, train, tmp_path / 'trained.pth', tmp_path / 'out.pth') == 0
    assert 'for random images of 32x40, for test image 1, for test image 2, in float64' in capsys.readouterr().out


@torch.no_grad()
@pytest.mark.parametrize('mode', 'ab')
def test_fully_connected_layers(mode, tmp_path, capsys):
    train, out = str(TREE / f'pddr/classification/mlp-pd{mode}_5e_mnist5k.py'), tmp_path / 'out.pth'
    torch.manual_seed(0)
    model = build_model(load_config(train)).eval()
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'trained.pth')
    assert run_tool(TOOL, train, tmp_path / 'trained.pth', out) == 0
    assert 'on 2 layers and the model for random images of 28x28' in capsys.readouterr().out
    cfg = load_config(train, {'model.backbone.layer_cfg.deploy': True})
    x = torch.randn(3, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    for checkpoint in (out, tmp_path / 'trained.pth'):
        deployed = build_model(cfg).eval()
        deployed.load_state_dict(torch.load(checkpoint, weights_only=True)['state_dict'])  # strict
        torch.testing.assert_close(deployed(x), model(x))
    plain = build_model(load_config(str(TREE / 'baselines/classification/mlp_5e_mnist5k.py'))).eval()
    assert run_tool(TOOL, train, tmp_path / 'trained.pth', tmp_path / 'p.pth', '--export-plain') == (mode == 'b')
    if mode == 'a':
        assert '-> 50,890' in capsys.readouterr().out
        plain.load_state_dict(torch.load(tmp_path / 'p.pth', weights_only=True)['state_dict'])
        torch.testing.assert_close(plain(x), model(x))
