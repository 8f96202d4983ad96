"""Every config of per-image denoising on an image of the toy data, by both solvers."""

import numpy as np
import pytest

from reprefine.engine.launch import load_config
from reprefine.methods.dvt import FeaturePairs
from tests.configs.walk import configs_below
from tests.helpers.run_tool import run_tool

BRIEF = [
    'backbone.pretrained=False',
    '+backbone.model_args.depth=1',
    'stage1.num_views=4',
    '+stage1.field.iterations=3',
    '+stage1.field.batch_tokens=64',
    '+stage1.field.encoding.n_levels=2',
]


@pytest.mark.parametrize('path', configs_below('dvt/stage1'), ids=lambda path: path.stem)
def test_denoises(path, tmp_path, toy_folder):
    root = toy_folder(['data/VOCdevkit'])
    name = sorted((root / 'VOC2012/JPEGImages').glob('*.jpg'))[0].relative_to(root).as_posix()
    (tmp_path / 'list.txt').write_text(f'data/VOCdevkit/{name}\n')
    cfg = load_config(str(path))
    patch = 14 if 'dinov2' in path.stem else 16
    for solver in ('closed-form', 'field'):
        out = tmp_path / solver
        options = ['--data-root', root, '--list', tmp_path / 'list.txt', '--out', out, '--solver', solver]
        brief = [*BRIEF, f'native.size={3 * patch}']
        assert run_tool('dvt/denoise_images.py', path, *options, '--cfg-options', *brief) == 0
        pairs = FeaturePairs(out, cfg.backbone.model_name)
        assert pairs.names == [name]
        assert pairs.raw(name).shape == pairs.denoised(name).shape == (3, 3, 768)
        assert np.isfinite(pairs.denoised(name)).all()
        assert np.abs(pairs.raw(name) - pairs.denoised(name)).max() > 1e-3
