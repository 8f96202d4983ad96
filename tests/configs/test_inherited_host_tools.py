"""Configs that inherit ours by name train under the tools of the host libraries and mmengine's own Runner."""

import runpy
import sys
from pathlib import Path

import pytest

from reprefine.engine.cli.launch import load_config
from tests.configs.brief import ROOT, brief_options, data_roots
from tests.configs.inherited import inherited

BY_HOST = {
    'mmpretrain': 'denoiserep/classification/vit-tiny_denoiserep_digits.py',
    'mmdet': 'pddr/detection/retinanet_r50-pda_fpn_1x_coco.py',
    'mmseg': 'baselines/face_parsing/bisenetv1_r18_2xb8-160k_celebamask-hq-448x448.py',
    'mmpose': 'pddr/landmarks/r50-pda_2xb64-60e_wflw-256x256.py',
}


@pytest.mark.parametrize('host', BY_HOST)
def test_tool_of_the_host_trains(host, tmp_path, toy_folder, monkeypatch):
    tool = Path(pytest.importorskip(host).__file__).parent / '.mim/tools/train.py'
    config = inherited(ROOT / 'configs' / BY_HOST[host], tmp_path)
    cfg = load_config(str(config))
    for root in data_roots(cfg):
        (tmp_path / root).parent.mkdir(exist_ok=True)
        (tmp_path / root).symlink_to(toy_folder([root]))
    monkeypatch.chdir(tmp_path)
    names = (f'experiment_name={host}', f'visualizer.name={host}')
    argv = [str(tool), str(config), '--work-dir', 'run', '--cfg-options', *brief_options(cfg), *names]
    monkeypatch.setattr(sys, 'argv', argv)
    runpy.run_path(str(tool), run_name='__main__')
    assert [path for path in (tmp_path / 'run').glob('*.pth') if path.stem in ('epoch_1', 'iter_2')]
