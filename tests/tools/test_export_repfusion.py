"""The exported backbone of a distillation has equal weights and a record of its origin."""

import hashlib

import pytest
import torch
from torch.testing import assert_close
from torchvision.models import ResNet, resnet

from reprefine.methods.repfusion.policy.histogram import read_histogram
from tests.helpers.run_tool import run_tool
from tests.methods.repfusion.run import distiller, trained

TOOL = 'model_converters/export_repfusion.py'
STUDENT = dict(backbone=dict(type='ResNet', depth=18))


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """A distillation of three epochs of a ResNet-18."""
    return trained(tmp_path_factory.mktemp('run'), {}, model=distiller(student=STUDENT))


def test_weights_load_into_torchvision_and_the_file_says_where_they_come_from(run, tmp_path):
    folder = run.work_dir
    assert run_tool(TOOL, f'{folder}/epoch_3.pth', tmp_path / 'r18.pth') == 0
    exported = torch.load(tmp_path / 'r18.pth', weights_only=True)
    reference = ResNet(resnet.BasicBlock, [2, 2, 2, 2])
    missing, unexpected = reference.load_state_dict(exported['state_dict'], strict=False)
    assert (missing, unexpected) == (['fc.weight', 'fc.bias'], [])
    model = run.model.eval()
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    reference.fc, reference.avgpool = torch.nn.Identity(), torch.nn.AdaptiveAvgPool2d(1)
    assert_close(reference.eval()(images), model.extract_feat(images)[-1].mean(dim=(2, 3)))
    meta = exported['meta']
    assert meta['teacher'] == model.teacher.fingerprint()
    assert (meta['epoch'], meta['iter']) == (3, run.iter)
    assert meta['timesteps'] == read_histogram(folder).counts.sum(axis=0).tolist()
    assert meta['config_hash'] == hashlib.sha256(run.cfg.pretty_text.encode()).hexdigest()


def test_prefix_and_bad_input(run, tmp_path, capsys):
    source, out = f'{run.work_dir}/epoch_3.pth', tmp_path / 'a.pth'
    assert run_tool(TOOL, source, out, '--prefix', 'backbone.') == 0
    assert all(key.startswith('backbone.') for key in torch.load(out, weights_only=True)['state_dict'])
    assert run_tool(TOOL, source, out) == 1
    assert 'exists: give another name' in capsys.readouterr().err
    assert run_tool(TOOL, out, tmp_path / 'b.pth') == 1
    assert 'has no weights student.backbone.*' in capsys.readouterr().err
