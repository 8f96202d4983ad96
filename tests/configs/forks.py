"""What only ``make test-forks`` runs: all modules import, all configs pass the config check, and some of them train.

``make test`` gets as much from the training of every config, for which there is no time a second time.
"""

import importlib
import json
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import reprefine
from reprefine.engine.cli.launch import load_config
from tests.configs.brief import ROOT
from tests.configs.walk import CONFIGS, train_and_test

MODULES = [module.name for module in pkgutil.walk_packages(reprefine.__path__, 'reprefine.')]


def test_the_forks_are_installed():
    found = subprocess.check_output([sys.executable, '-m', 'reprefine.check_env', '--json'], text=True)
    rows = {row['task']: row for row in json.loads(found)['rows']}
    assert rows['package family']['note'].startswith('the maintained forks')
    assert [task for task, row in rows.items() if not row['works']] in ([], ['GPU'])


# Each method, and each task of each host library.
TRAINED = (
    'denoiserep/classification/vit-tiny_denoiserep_digits',
    'denoiserep/segmentation/segformer_mit-b0_denoiserep-80k_ade20k-512x512',
    'pddr/detection/retinanet_r50-pda_fpn_1x_coco',
    'pddr/landmarks/r50-pda_2xb64-60e_wflw-256x256',
    'feature_transform/selfsup/moco-v2-ft_resnet14-narrow_12e_mnist5k',
    'repfusion/distill/resnet14-narrow_repfusion-rl-hint_30e_mnist5k-32px',
    'repfusion/face_parsing/bisenetv1_r18-repfusion-pre_2xb8-160k_celebamask-hq-19classes-448x448',
    'dvt/segmentation/vit-b-mae-dvt_linear_8xb2-40k_voc12-512x512',
    'dvt/depth/vit-b-mae-dvt_linear_8xb2-38k_nyu-416x544',
)


@pytest.mark.parametrize('name', MODULES)
def test_imports(name):
    importlib.import_module(name)


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: str(Path(*path.parts[-3:])))
def test_config_passes_the_check(path):
    load_config(str(path))


@pytest.mark.parametrize('name', TRAINED, ids=lambda name: name.rpartition('/')[2])
def test_trains_and_tests(name, tmp_path, toy_folder):
    train_and_test(ROOT / f'configs/{name}.py', tmp_path, toy_folder)
