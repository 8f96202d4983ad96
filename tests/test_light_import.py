"""Importing the package costs next to nothing on top of mmengine."""

import subprocess
import sys

HEAVY = ('torch', 'torchvision', 'mmcv', 'mmpretrain', 'mmdet', 'mmseg', 'mmpose', 'diffusers', 'timm', 'matplotlib')


def run(code: str) -> str:
    return subprocess.check_output([sys.executable, '-c', code], text=True).strip()


def test_nothing_heavy_is_imported():
    assert run(f'import sys, reprefine; print([name for name in {HEAVY} if name in sys.modules])') == '[]'


def test_under_a_second_beyond_mmengine():
    spent = run(
        'import time, mmengine; start = time.perf_counter(); import reprefine; print(time.perf_counter() - start)'
    )
    assert float(spent) < 1
