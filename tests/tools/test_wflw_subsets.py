"""Testing on WFLW's subsets from the command line."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from reprefine.engine.build import build_model
from reprefine.engine.cli.launch import load_config
from reprefine.tasks.landmarks.subsets import SUBSETS, annotation_file
from tests.helpers.run import ROOT, run_test
from tests.helpers.run_tool import run_tool

TOOL = 'analysis_tools/test_wflw_subsets.py'
CONFIG = f'{ROOT}/configs/baselines/landmarks/r50_2xb64-60e_wflw-256x256.py'
NETWORK = {
    'model.backbone.depth': 18,
    'model.backbone.base_channels': 8,
    'model.backbone.stem_channels': 8,
    'model.head.in_channels': 64,
    'model.head.deconv_out_channels': (8, 8, 8),
}
OPTIONS = (*(f'{key}={value}'.replace(' ', '') for key, value in NETWORK.items()), 'test_dataloader.num_workers=0')


def write_faces(root: Path) -> Path:
    """Six faces; all are in the full test set, and each in a subset of its own."""
    rng = np.random.default_rng(0)
    (root / 'images/event').mkdir(parents=True)
    (root / 'annotations').mkdir()
    images, annotations = [], []
    for face in range(6):
        cv2.imwrite(str(root / f'images/event/{face}.jpg'), rng.integers(0, 256, (80, 80, 3), np.uint8))
        points = np.column_stack([rng.uniform(10, 70, (98, 2)), np.ones(98)])
        images.append(dict(id=face, file_name=f'event/{face}.jpg', height=80, width=80))
        annotations.append(
            dict(
                id=face, image_id=face, category_id=1, iscrowd=0, num_keypoints=98, keypoints=points.ravel().tolist(),
                bbox=[10, 10, 60, 60], center=[40.0, 40.0], scale=0.4,
            )
        )  # fmt: skip
    categories = [dict(id=1, name='face')]
    for subset, faces in zip(SUBSETS, (range(6), *([face] for face in range(6))), strict=True):
        content = dict(images=[images[i] for i in faces], annotations=[annotations[i] for i in faces])
        (root / annotation_file(subset)).write_text(json.dumps({**content, 'categories': categories}))
    return root


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """Data root and the checkpoint of an untrained model."""
    pytest.importorskip('mmpose')
    folder = tmp_path_factory.mktemp('wflw')
    torch.manual_seed(0)
    model = build_model(load_config(CONFIG, NETWORK))
    torch.save(dict(state_dict=model.state_dict(), meta={}), folder / 'model.pth')
    return write_faces(folder / 'data'), folder / 'model.pth'


def test_every_subset_is_tested(run, tmp_path, capsys):
    root, checkpoint = run
    common = ('--data-root', root, '--work-dir', tmp_path, '--cfg-options', *OPTIONS)
    assert run_tool(TOOL, CONFIG, checkpoint, '--out', tmp_path / 'subsets.json', *common) == 0
    results = json.loads((tmp_path / 'subsets.json').read_text())
    assert tuple(results) == SUBSETS
    parts = [results[subset] for subset in SUBSETS[1:]]
    assert len({part['NME'] for part in parts}) == 6
    for name, value in results['full'].items():
        assert value == pytest.approx(np.mean([part[name] for part in parts]), abs=1e-6)
    table = capsys.readouterr().out
    assert all(f'{results[subset]["NME"]:.4f}' in table for subset in SUBSETS)

    options = ('--work-dir', str(tmp_path), '--data-root', str(root), '--out', str(tmp_path / 'full.json'))
    assert run_test(CONFIG, str(checkpoint), *options, '--cfg-options', *OPTIONS) == 0
    assert json.loads((tmp_path / 'full.json').read_text()) == pytest.approx(results['full'])


def test_missing_subsets_are_named_before_anything_is_tested(run, tmp_path, capsys):
    root = write_faces(tmp_path / 'data')
    (root / annotation_file('blur')).unlink()
    assert run_tool(TOOL, CONFIG, run[1], '--data-root', root, '--work-dir', tmp_path / 'work') == 1
    assert f'{root} lacks annotations/face_landmarks_wflw_test_blur.json; give' in capsys.readouterr().err
    assert not (tmp_path / 'work').exists()
