"""Testing of what is not trained, without a checkpoint."""

import mmengine
import pytest
import timm
import torch
from toy_data import make_toy_data

from tests.helpers.run import DIGITS, ROOT, run_test

CONFIG = str(ROOT / 'configs/baselines/object_discovery/vit-b-dinov2_lost_voc07.py')
TINY = dict(depth=1, embed_dim=32, num_heads=2)


@pytest.fixture(scope='module')
def voc(tmp_path_factory):
    return make_toy_data(tmp_path_factory.mktemp('toy'), ['voc'])[0]


def brief(*more: str) -> list[str]:
    loader = ['test_dataloader.dataset.indices=4', 'test_dataloader.num_workers=0']
    model = [f'+model.backbone.model_args.{name}={value}' for name, value in TINY.items()]
    return ['--cfg-options', 'model.backbone.pretrained=False', *model, *loader, *more]


def boxes(tmp_path, root, *options: str) -> torch.Tensor:
    out = str(tmp_path / 'found.pkl')
    arguments = ['--data-root', str(root), '--work-dir', str(tmp_path), '--out', out, *brief(*options)]
    assert run_test(CONFIG, *arguments) == 0
    return torch.cat([sample['pred_instances']['bboxes'] for sample in mmengine.load(out)])


def test_the_weights_are_those_that_the_config_names(tmp_path, voc):
    torch.manual_seed(7)
    vit = timm.create_model('vit_base_patch14_dinov2.lvd142m', num_classes=0, **TINY)
    torch.save(vit.state_dict(), tmp_path / 'vit.pth')
    named = f'+model.backbone.checkpoint={tmp_path / "vit.pth"}'
    first, second = (boxes(tmp_path, voc, named, f'randomness.seed={seed}') for seed in (0, 1))
    assert torch.equal(first, second)
    assert not torch.equal(first, boxes(tmp_path, voc, 'randomness.seed=0'))


def test_a_missing_file_is_named(tmp_path, voc, capsys):
    options = brief('+model.backbone.checkpoint=gone.pth')
    assert run_test(CONFIG, '--data-root', str(voc), '--work-dir', str(tmp_path), *options) == 1
    assert 'gone.pth does not exist' in capsys.readouterr().err.splitlines()[-1]


def test_what_is_trained_needs_its_checkpoint(tmp_path, capsys):
    assert run_test(DIGITS, '--work-dir', str(tmp_path)) == 1
    assert 'trains a model: name the checkpoint to test' in capsys.readouterr().err
