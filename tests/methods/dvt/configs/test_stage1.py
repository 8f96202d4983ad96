"""Every config of per-image denoising on an image of the toy data."""

import numpy as np
import pytest

from reprefine.engine.cli.launch import load_config
from reprefine.methods.dvt import FeaturePairDataset, FeaturePairs, Stage1Config
from tests.configs.walk import configs_below
from tests.helpers.repository import ROOT
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
    name = min((root / 'VOC2012/JPEGImages').glob('*.jpg')).relative_to(root).as_posix()
    (tmp_path / 'list.txt').write_text(f'data/VOCdevkit/{name}\n')
    cfg = load_config(str(path))
    patch = 14 if 'dinov2' in path.stem else 16
    options = ['--data-root', root, '--list', tmp_path / 'list.txt', '--out', tmp_path / 'out']
    brief = [*BRIEF, f'native.size={3 * patch}']
    assert run_tool('denoise_images.py', path, *options, '--cfg-options', *brief) == 0
    pairs = FeaturePairs(tmp_path / 'out', cfg.backbone.model_name)
    assert pairs.names == pairs.list_file.read_text().split() == [name]
    assert pairs.raw(name).shape == pairs.denoised(name).shape == (3, 3, 768)
    assert np.isfinite(pairs.denoised(name)).all()
    assert np.abs(pairs.raw(name) - pairs.denoised(name)).max() > 1e-3


def test_each_solver_writes_where_its_denoiser_reads():
    """Stage 1 of a solver and profile goes to a folder of its own, from which its denoisers are trained."""
    made = {}
    for path in configs_below('dvt/stage1'):
        cfg = load_config(str(path))
        stage1 = Stage1Config.from_config(cfg)
        profile = stage1.profile if stage1.solver == 'field' else None
        made[cfg.out_dir, cfg.backbone.model_name] = dict(solver=stage1.solver, profile=profile)
    denoisers = configs_below('dvt/denoiser')
    for path in denoisers:
        dataset = load_config(str(path)).train_dataloader.dataset
        assert dataset.indices == 10000  # as "voc10k" says
        assert made[dataset.data_root, dataset.model_id] == dict(profile=None) | dataset.made_with.to_dict()
    assert len(made) == len(denoisers) == 3 * 7


@pytest.mark.parametrize('made', [dict(solver='closed-form'), dict(solver='field', profile='cpu')])
def test_the_denoiser_of_the_small_vit_is_trained_on_features_of_either_solver(made, tmp_path):
    """The README's commands on the CPU, and the experiment, which compares both solvers."""
    cfg = load_config(str(ROOT / 'configs/dvt/demo/vit-p4_denoiser_300_ade20k-64px.py'))
    settings = {**cfg.train_dataloader.dataset.to_dict(), 'data_root': str(tmp_path)}
    del settings['type']
    pairs = FeaturePairs(tmp_path, settings['model_id'])
    pairs.write('a.jpg', *np.random.default_rng(0).normal(size=(2, 16, 16, 96)))
    pairs.write_meta(made)
    assert len(FeaturePairDataset(**settings)) == 1
