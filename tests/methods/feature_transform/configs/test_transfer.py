"""Linear evaluation and transfer of pre-trained encoders: each config trains and tests, and starts from its encoder."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from reprefine.engine.build import build_model
from reprefine.engine.cli.launch import default_work_dir, load_config
from tests.configs.brief import ROOT
from tests.configs.walk import configs_below, train_and_test
from tests.helpers.run import run_train

CLASSIFIERS = configs_below('feature_transform/classification')
DETECTORS = configs_below('feature_transform/detection')
(SMALL,) = (path for path in CLASSIFIERS if path.stem.endswith('mnist5k'))


@pytest.mark.parametrize('path', CLASSIFIERS, ids=lambda path: path.stem)
def test_classifier_trains_and_tests(path, tmp_path, toy_folder):
    train_and_test(path, tmp_path, toy_folder)


@pytest.mark.parametrize('path', DETECTORS, ids=lambda path: path.stem)
def test_detector_trains_and_tests(path, tmp_path, toy_folder):
    train_and_test(path, tmp_path, toy_folder)


def checkpoints(cfg: Config) -> set[str]:
    """Return the checkpoints that parts of a config's model start from."""
    parts = [cfg.model.backbone, cfg.model.get('roi_head', {}).get('shared_head', {})]
    return {part['init_cfg']['checkpoint'] for part in parts if part.get('init_cfg')}


def pre_training_of(path: Path) -> tuple[str, int]:
    """Return name and epochs of the pre-training that a transfer config's name tells of."""
    version = path.stem.split('moco-')[1][:2]
    if path.stem.endswith('mnist5k'):
        return f'moco-{version}-ft_resnet14-narrow_12e_mnist5k', 12
    data = 'in100' if path.stem.endswith('linear-100e_in100') else 'in1k'
    return f'moco-{version}-ft_resnet50_8xb32-coslr-200e_{data}', 200


@pytest.mark.parametrize('path', [*CLASSIFIERS, *DETECTORS], ids=lambda path: path.stem)
def test_starts_from_the_last_checkpoint_of_its_pre_training(path):
    cfg = load_config(str(path))
    name, epochs = pre_training_of(path)
    config = str(ROOT / f'configs/feature_transform/selfsup/{name}.py')
    assert checkpoints(cfg) == {f'{default_work_dir(config)}/epoch_{epochs}.pth'}
    assert cfg.model.backbone.init_cfg.prefix == 'backbone.'
    pre_training = load_config(config)
    assert pre_training.train_cfg.max_epochs == epochs
    assert pre_training.model.backbone.depth == cfg.model.backbone.depth


def test_probe_finds_what_pre_training_has_written(tmp_path, monkeypatch):
    """Both with the folders that the tools choose, on few images."""
    monkeypatch.chdir(tmp_path)
    name, epochs = pre_training_of(SMALL)
    short = ('--no-validate', '--cfg-options', 'train_dataloader.dataset.indices=64')
    without_neighbours = ('custom_hooks.1.bank.dataset.indices=20', 'custom_hooks.1.query.dataset.indices=20')
    pre_training = ROOT / f'configs/feature_transform/selfsup/{name}.py'
    assert run_train(str(pre_training), *short, *without_neighbours) == 0
    assert run_train(str(SMALL), *short, 'train_cfg.max_epochs=1', 'optim_wrapper.optimizer.lr=0') == 0
    written = torch.load(f'{default_work_dir(str(pre_training))}/epoch_{epochs}.pth', weights_only=True)['state_dict']
    probe = torch.load(f'{default_work_dir(str(SMALL))}/epoch_1.pth', weights_only=True)['state_dict']
    assert {key: value for key, value in probe.items() if 'conv' in key}
    for key, value in probe.items():
        assert 'conv' not in key or torch.equal(written[key], value), key


def test_every_layer_of_the_encoder_arrives(tmp_path):
    pre_training = load_config(
        str(ROOT / 'configs/feature_transform/selfsup/moco-v2-ft_resnet50_8xb32-coslr-200e_in1k.py')
    )
    pre_training.model.queue_len = 8
    encoder = build_model(pre_training)
    for parameter in encoder.backbone.parameters():
        torch.nn.init.normal_(parameter)
    file = str(tmp_path / 'epoch_200.pth')
    torch.save(dict(state_dict=encoder.state_dict()), file)
    config = ROOT / 'configs/feature_transform/detection/faster-rcnn_r50-c4-moco-v2-ft-pre_ms-24k_voc0712.py'
    parts = ('model.backbone', 'model.roi_head.shared_head')
    cfg = load_config(str(config), {f'{part}.init_cfg.checkpoint': file for part in parts})
    detector = build_model(cfg)
    detector.init_weights()
    loaded = {**dict(detector.backbone.named_parameters()), **dict(detector.roi_head.shared_head.named_parameters())}
    for name, parameter in encoder.backbone.named_parameters():
        assert torch.equal(loaded.pop(name), parameter), name
    assert set(loaded) == {'norm.weight', 'norm.bias'}
