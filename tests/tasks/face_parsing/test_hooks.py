from types import SimpleNamespace

import numpy as np
import pytest
from mmengine.registry import HOOKS
from mmengine.visualization import Visualizer
from mmseg.engine.hooks import SegVisualizationHook
from PIL import Image

from reprefine.engine.cli.launch import load_config
from reprefine.engine.cli.test import draw_predictions
from reprefine.engine.errors import UserError
from tests.helpers.run import ROOT

CONFIG = f'{ROOT}/configs/baselines/face_parsing/bisenetv1_r18_2xb8-160k_celebamask-hq-448x448.py'


class Recorder:
    def __init__(self):
        self.images = []

    def add_datasample(self, name, image, **_):
        self.images.append((name, image))


def build_hook(cfg) -> tuple:
    Visualizer.get_instance('faces')
    hook = HOOKS.build(cfg.default_hooks.visualization)
    hook._visualizer = Recorder()
    return hook, hook._visualizer.images


def test_draws_at_the_size_of_the_label_map(tmp_path, monkeypatch):
    # The hook of mmseg's fork overrides after_test_iter.
    monkeypatch.setattr(SegVisualizationHook, 'after_test_iter', None, raising=False)
    pixels = np.random.default_rng(0).integers(0, 256, (16, 12, 3), np.uint8)
    samples = []
    for name in ('7', '8', '9'):
        Image.fromarray(pixels).save(tmp_path / f'{name}.png')
        samples.append(SimpleNamespace(img_path=str(tmp_path / f'{name}.png'), ori_shape=(8, 6)))
    cfg = load_config(CONFIG)
    hook, drawn = build_hook(cfg)
    hook.after_test_iter(SimpleNamespace(iter=0), 0, {}, samples)
    assert drawn == []  # off by default

    draw_predictions(cfg, show=False, show_dir=str(tmp_path), interval=2, wait_time=0)
    hook, drawn = build_hook(cfg)
    hook.after_train_iter(SimpleNamespace(iter=0), 1, {}, samples)
    for batch, sample in enumerate(samples):
        hook.after_test_iter(SimpleNamespace(iter=0), batch, {}, [sample])
    assert [name for name, _ in drawn] == ['test_8.png']  # every second one
    Image.fromarray(pixels).save(tmp_path / 'cut.jpg')
    (tmp_path / 'cut.jpg').write_bytes((tmp_path / 'cut.jpg').read_bytes()[:-50])
    cut = SimpleNamespace(img_path=str(tmp_path / 'cut.jpg'), ori_shape=(8, 6))
    with pytest.raises(UserError, match=r'cut\.jpg cannot be read'):
        hook.after_test_iter(SimpleNamespace(iter=0), 1, {}, [cut])
    expected = pixels.astype(float).reshape(8, 2, 6, 2, 3).mean(axis=(1, 3))
    assert drawn[0][1].shape == (8, 6, 3)
    assert np.abs(drawn[0][1] - expected).max() <= 1
