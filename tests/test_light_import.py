"""Importing the package takes little more time than mmengine."""

import subprocess
import sys

from tests.helpers.fresh import fresh_environment, run_fresh

HEAVY = ('torch', 'torchvision', 'mmcv', 'mmpretrain', 'mmdet', 'mmseg', 'mmpose', 'diffusers', 'timm', 'matplotlib')


def test_nothing_heavy_is_imported():
    assert run_fresh(f'import sys, reprefine; print([name for name in {HEAVY} if name in sys.modules])') == '[]'


def test_under_a_second_beyond_mmengine():
    spent = run_fresh(
        'import time, mmengine; start = time.perf_counter(); import reprefine; print(time.perf_counter() - start)'
    )
    assert float(spent) < 1


def test_what_can_be_refused_without_torch_is(tmp_path):
    (tmp_path / 'misspelt.py').write_text('modle = dict()\n')
    (tmp_path / 'broken.py').write_text('model = dict(\n')
    (tmp_path / 'good.py').write_text('model = dict()\n')
    (tmp_path / 'started.py').write_text("load_from = 'gone.pth'\n")
    (tmp_path / 'finished').mkdir()
    (tmp_path / 'finished/epoch_1.pth').touch()
    (tmp_path / 'work_dirs/good').mkdir(parents=True)
    (tmp_path / 'work_dirs/good/.config').write_text('/elsewhere/good.py\n')
    refused = {
        'train': [
            ['gone.py'],
            ['misspelt.py'],
            ['broken.py'],
            ['good.py'],  # the work dir of another config
            ['good.py', '--work-dir', 'finished'],
            ['good.py', '--work-dir', 'new', '--resume', 'gone.pth'],
            ['started.py'],
            ['good.py', '--work-dir', 'new', '--cfg-options', 'load_from=3'],
        ],
        'test': [['good.py', 'gone.pth'], ['gone.py', 'finished/epoch_1.pth'], ['good.py', 'finished/epoch_1.pth']],
    }
    code = f"""
import argparse, sys
from reprefine.engine.cli import test, train
from reprefine.engine.errors import run_cli
for name, command in {refused}.items():
    for argv in command:
        parser = argparse.ArgumentParser(name)
        getattr(globals()[name], f'add_{{name}}_arguments')(parser)
        assert run_cli(getattr(globals()[name], name), parser, argv) == 1, argv
print([name for name in {HEAVY} if name in sys.modules])
"""
    env = fresh_environment()
    result = subprocess.run([sys.executable, '-c', code], text=True, capture_output=True, cwd=tmp_path, env=env)
    assert result.stdout.strip() == '[]', result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == sum(map(len, refused.values()))
    assert all('error: ' in line for line in lines)
    assert 'work dir work_dirs/good is that of /elsewhere/good.py, not of good.py: give another --work-dir' in lines[3]
