import json

import cv2
import numpy as np
import pytest
import timm

from reprefine.engine.checkpoints.checkpoint import read_checkpoint
from tests.helpers.run import ROOT, run_test, run_train

CONFIG = str(ROOT / 'configs/baselines/depth/vit-b-dinov2-reg_linear_8xb2-38k_nyu-416x544.py')
SMALL = (
    '--cfg-options',
    '+model.backbone.model_args.depth=1',
    '+model.backbone.model_args.embed_dim=48',
    '+model.backbone.model_args.num_heads=3',
    'model.decode_head.in_channels=48',
    'model.decode_head.scale_factor=1',
    'train_dataloader.num_workers=0',
    'val_dataloader.num_workers=0',
    'test_dataloader.num_workers=0',
)


@pytest.fixture
def nyu(tmp_path):
    """Two scenes for training and two for testing; depth decreases from top to bottom."""
    generator = np.random.default_rng(0)
    depth = np.repeat(np.linspace(8000, 1000, 480)[:, None], 640, axis=1).astype(np.uint16)
    for split in ('train', 'test'):
        for name in ('den_1', 'study_2'):
            for kind in ('images', 'annotations'):
                (tmp_path / 'nyu' / kind / split).mkdir(parents=True, exist_ok=True)
            image = generator.integers(0, 255, (480, 640, 3), dtype=np.uint8)
            cv2.imwrite(str(tmp_path / 'nyu/images' / split / f'{name}.jpg'), image)
            cv2.imwrite(str(tmp_path / 'nyu/annotations' / split / f'{name}.png'), depth)
    return tmp_path / 'nyu'


def test_checkpoint_of_a_run_is_tested_without_fetching_weights(nyu, tmp_path, monkeypatch):
    work_dir = ('--work-dir', str(tmp_path / 'run'), '--data-root', str(nyu))
    few = ('model.backbone.pretrained=False', 'train_cfg.max_iters=2', 'train_cfg.val_interval=2')
    assert run_train(CONFIG, *work_dir, *SMALL, *few) == 0
    checkpoint = str(tmp_path / 'run/iter_2.pth')
    assert read_checkpoint(checkpoint)['state_dict']['decode_head.loss_decode.0.calls'] == 2
    create = timm.create_model

    def create_offline(*args, pretrained, **kwargs):
        assert not pretrained
        return create(*args, **kwargs)

    monkeypatch.setattr(timm, 'create_model', create_offline)
    assert run_test(CONFIG, checkpoint, '--out', str(tmp_path / 'metrics.json'), *work_dir, *SMALL) == 0
    log = next((tmp_path / 'run').glob('*/vis_data/scalars.json')).read_text().splitlines()
    validated = next(entry for entry in map(json.loads, log) if 'abs_rel' in entry)
    tested = json.loads((tmp_path / 'metrics.json').read_text())
    assert {name: tested[name] for name in ('d1', 'abs_rel', 'silog')} == pytest.approx(
        {name: validated[name] for name in ('d1', 'abs_rel', 'silog')}, rel=1e-5
    )
    assert 0 < tested['abs_rel'] < 5
