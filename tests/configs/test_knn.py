"""Configs of segmentation by nearest neighbours: the bank is filled by training and comes with the checkpoint."""

import numpy as np
import pytest
import torch

from reprefine.engine.cli.launch import load_config
from reprefine.engine.config_check.walk import iter_dicts
from tests.configs.brief import ROOT
from tests.configs.walk import brief_arguments, configs_below
from tests.helpers.run import run_test, run_train
from tests.methods.dvt.configs.variables import without_variables

BASELINES = [path for path in configs_below('baselines/segmentation') if '_knn' in path.stem]
NECKS = [path for path in configs_below('dvt/segmentation') if '_knn' in path.stem]


@pytest.mark.parametrize('path', NECKS, ids=lambda path: path.stem)
def test_differs_from_its_twin_by_the_neck_alone(path):
    twin = ROOT / 'configs/baselines/segmentation' / path.name.replace('-dvt', '', 1)
    ours, theirs = load_config(str(path)), load_config(str(twin))
    assert ours.model.pop('neck').type == 'reprefine.DVTDenoiser'
    assert without_variables(ours) == without_variables(theirs)


@pytest.mark.parametrize('path', BASELINES, ids=lambda path: path.stem)
def test_protocol(path):
    cfg = load_config(str(path))
    head = cfg.model.decode_head
    published = '_knn20_' in path.stem
    assert (head.num_neighbors, head.get('entries', 'centroids')) == (
        (20, 'centroids') if published else (30, 'patches')
    )
    assert head.num_classes == (21 if 'voc12' in path.stem else 150)
    for loader in (cfg.train_dataloader, cfg.test_dataloader):
        (resize,) = [step for step in loader.dataset.pipeline if step.type == 'Resize']
        assert (resize.scale, resize.keep_ratio) == ((518, 518), False)
    assert [step.type for step in cfg.test_dataloader.dataset.pipeline].index('Resize') == 1  # labels keep their size


def test_the_bank_holds_the_classes_of_the_training_images(tmp_path, toy_folder):
    path = next(path for path in BASELINES if path.stem == 'vit-b-dinov2_knn20_voc12-518x518')
    brief = brief_arguments(path, toy_folder)
    assert run_train(str(path), '--work-dir', str(tmp_path), *brief) == 0
    checkpoint = tmp_path / 'epoch_1.pth'
    bank = torch.load(checkpoint, weights_only=True)['state_dict']['decode_head.bank._extra_state']
    assert bank.shape[1] == 768 + 21
    assert (bank[:, 768:].sum(1) == 1).all()
    assert bank[:, 768].sum() == 4  # the background of each of the four images
    assert 4 < len(bank) <= 4 * 4
    emptied = torch.load(checkpoint, weights_only=True)
    emptied['state_dict']['decode_head.bank._extra_state'] = bank[:0]
    torch.save(emptied, tmp_path / 'empty.pth')
    assert run_test(str(path), str(tmp_path / 'empty.pth'), '--work-dir', str(tmp_path), *brief) == 1


@pytest.mark.parametrize('path', configs_below('dvt/stage1_segmentation'), ids=lambda path: path.stem)
def test_features_of_stage_1_are_read_from_files(path, tmp_path, toy_folder):
    cfg = load_config(str(path))
    roots = [
        f'{place}.root={tmp_path}' for place, node in iter_dicts(cfg._cfg_dict)
        if place.startswith(('train_', 'val_', 'test_')) and node.get('type') == 'reprefine.LoadFeatureMap'
    ]  # fmt: skip
    assert len(roots) == 3
    stage1 = load_config(str(ROOT / 'configs/dvt/stage1/vit-b-dinov2_denoise-field_768views.py'))
    folder = f'{stage1.out_dir}/denoised_features/{stage1.backbone.model_name}'
    assert cfg.load.root == folder
    brief = [*brief_arguments(path, toy_folder), *roots]
    voc = toy_folder(['data/VOCdevkit/VOC2012'])
    rng = np.random.default_rng(0)
    for image in (voc / 'JPEGImages').glob('*.jpg'):
        file = tmp_path / 'VOC2012/JPEGImages' / f'{image.name}.npy'
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, rng.normal(size=(3, 4, 768)).astype(np.float32))
    assert run_train(str(path), '--work-dir', str(tmp_path / 'run'), *brief) == 0
    assert run_test(str(path), str(tmp_path / 'run/epoch_1.pth'), '--work-dir', str(tmp_path / 'run'), *brief) == 0
