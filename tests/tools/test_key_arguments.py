"""Every tool that reads a checkpoint of a model takes the options that choose and rename its weights."""

import pytest
import torch

from reprefine.engine.build import build_model, load_trained
from reprefine.engine.cli.launch import load_config
from reprefine.engine.errors import UserError
from tests.helpers.run import DENOISED, DIGITS, ROOT
from tests.helpers.run_tool import TOOLS, load_tool, run_tool

READERS = {
    'train.py': ['C'],
    'test.py': ['C', 'F'],
    'analysis_tools/pd_gates.py': ['C', 'F'],
    'analysis_tools/plot_feature_spectrum.py': ['C', 'F'],
    'analysis_tools/test_wflw_subsets.py': ['C', 'F'],
    'model_converters/export_repfusion.py': ['F', 'O'],
    'model_converters/lottery_transfer_pddr.py': ['C', 'F', 'O'],
    'model_converters/static_gates_pddr.py': ['C', 'F', 'O'],
    'model_converters/publish_model.py': ['F', 'O'],
    'model_converters/reparameterize_model.py': ['C', 'F', 'O'],
    'visualizations/vis_cam.py': ['--model', 'C', 'F', '--out', 'a.png'],
    'visualizations/vis_pd_branches.py': ['C', 'F', '--out', 'a.png'],
    'visualizations/vis_ranking.py': ['C', 'F', '--out', 'a.png'],
}
KEYS = ('--checkpoint-key', 'ema', '--revise-keys', r'^module\.=')
PDB = str(ROOT / 'configs/pddr/classification/resnet18-w32-pdb_10e_mnist5k.py')


@pytest.mark.parametrize('tool', READERS)
def test_takes_both_options(tool):
    args = load_tool(tool)[1].parse_args([*READERS[tool], *KEYS])
    assert (args.checkpoint_key, args.revise_keys) == ('ema', [r'^module\.='])


def test_every_tool_that_reads_a_checkpoint_is_here_or_reads_a_format_of_its_own():
    argument = "add_argument('checkpoint'"
    reading = {path.relative_to(TOOLS).as_posix() for path in TOOLS.rglob('*.py') if argument in path.read_text()}
    assert {tool for tool in reading if '/import_' not in tool} - READERS.keys() == {
        'model_converters/mae_to_timm.py',
        'experiments/shipped.py',  # of any format, with --prefix
    }


def nested(model, path):
    torch.save(dict(ema={f'module.{name}': value for name, value in model.state_dict().items()}), path)
    return path


def test_a_trained_model_for_analysis(tmp_path):
    cfg = load_config(DIGITS)
    model = build_model(cfg)
    file = str(nested(model, tmp_path / 'a.pth'))
    with pytest.raises(UserError, match=r"entry 'ema' with 'module.' removed .*--checkpoint-key ema --revise-keys"):
        load_trained(cfg, file)
    loaded = load_trained(cfg, file, 'ema', [(r'^module\.', '')])
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in model.state_dict().items())


def test_folding_of_denoisers(tmp_path):
    file = nested(build_model(load_config(DENOISED)), tmp_path / 'a.pth')
    assert run_tool('model_converters/reparameterize_model.py', DENOISED, file, tmp_path / 'b.pth', *KEYS) == 0
    deployed = torch.load(tmp_path / 'b.pth', weights_only=True)['state_dict']
    build_model(load_config(DIGITS)).load_state_dict(deployed)  # strict


def test_folding_of_disentangled_convolutions(tmp_path):
    file = nested(build_model(load_config(PDB)), tmp_path / 'a.pth')
    assert run_tool('model_converters/reparameterize_model.py', PDB, file, tmp_path / 'b.pth', *KEYS) == 0
    deployed = torch.load(tmp_path / 'b.pth', weights_only=True)['state_dict']
    assert any('reparam' in name for name in deployed)


def test_export_of_a_distilled_backbone(tmp_path, capsys):
    torch.save(dict(ema={'module.student.backbone.conv1.weight': torch.ones(1)}), tmp_path / 'a.pth')
    assert run_tool('model_converters/export_repfusion.py', tmp_path / 'a.pth', tmp_path / 'b.pth', *KEYS) == 0
    assert torch.load(tmp_path / 'b.pth', weights_only=True)['state_dict'].keys() == {'conv1.weight'}
