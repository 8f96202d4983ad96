"""Backbones of distillations and contrastive trainings in the host libraries' functions for trained models."""

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from reprefine.engine.build import build_model
from reprefine.engine.checkpoints.pretrained import register_initializer
from tests.helpers.run_tool import run_tool
from tests.helpers.tiny_hosts import CLASSIFIER, write_config, write_images
from tests.methods.feature_transform.toys import moco_ft
from tests.methods.repfusion.run import distiller
from tests.tools.test_hosts import DETECTOR, SEGMENTOR

BACKBONE = dict(type='ResNet', depth=18, base_channels=16, stem_channels=16)
START = "init_cfg=dict(type='Pretrained', checkpoint='{start}', prefix='{prefix}')"
CONFIGS = {
    'mmpretrain': CLASSIFIER.replace('base_channels=8, stem_channels=8', 'base_channels=16, stem_channels=16')
    .replace("init_cfg=dict(type='Pretrained', checkpoint='absent.pth')", START)
    .replace('in_channels=64', 'in_channels=128'),
    'mmdet': DETECTOR.replace('init_cfg=None', START),
    'mmseg': SEGMENTOR.replace('backbone=dict(', f"backbone=dict(type='ResNet', {START}, ")
    + 'test_pipeline = pipeline\n',
}
CLASSES = dict(classes=('square', 'disc'))


@pytest.fixture(scope='module')
def starts(tmp_path_factory):
    """File, prefix and backbone of an exported student and of a contrastive model."""
    folder = tmp_path_factory.mktemp('starts')
    student = distiller(student=dict(backbone=BACKBONE))
    torch.save(dict(state_dict=student.state_dict(), meta={}), folder / 'distilled.pth')
    assert run_tool('model_converters/export_repfusion.py', folder / 'distilled.pth', folder / 'backbone.pth') == 0
    contrastive = moco_ft(
        backbone=BACKBONE, neck=dict(type='MoCoV2Neck', in_channels=128, hid_channels=16, out_channels=8)
    )
    torch.save(dict(state_dict=contrastive.state_dict(), meta={}), folder / 'contrastive.pth')
    return {
        'distilled': (folder / 'backbone.pth', '', student.student['backbone']),
        'contrastive': (folder / 'contrastive.pth', 'backbone.', contrastive.backbone),
    }


def started(host, start, folder):
    """Config and checkpoint of a model that starts from a file, and the model; the file is gone then."""
    file, prefix, backbone = start
    write_images(folder)
    own = folder / 'start.pth'
    own.write_bytes(file.read_bytes())
    text = CONFIGS[host].replace('{start}', str(own))
    text = text.replace("prefix='{prefix}'", f'prefix={prefix!r}' if prefix else 'prefix=None')
    config = write_config(folder, text)
    register_initializer()
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(host):
        model = build_model(Config.fromfile(config))
        model.init_weights()
    own.unlink()
    state = model.backbone.state_dict()
    assert state.keys() == backbone.state_dict().keys()
    assert all(torch.equal(state[key], value) for key, value in backbone.state_dict().items())
    torch.save(dict(state_dict=model.state_dict(), meta=dict(dataset_meta=CLASSES)), folder / 'trained.pth')
    return config, str(folder / 'trained.pth'), model.eval()


def image():
    return np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)


@pytest.mark.parametrize('kind', ['distilled', 'contrastive'])
def test_mmpretrain_builds_and_infers(kind, starts, tmp_path):
    from mmpretrain import ImageClassificationInferencer, get_model
    from mmpretrain.apis import init_model

    config, checkpoint, model = started('mmpretrain', starts[kind], tmp_path)
    x = torch.randn(2, 3, 32, 40)
    for built in (get_model(config, pretrained=checkpoint), init_model(config, checkpoint, device='cpu')):
        assert torch.equal(built.extract_feat(x)[0], model.extract_feat(x)[0])
    inferencer = ImageClassificationInferencer(config, pretrained=checkpoint, device='cpu')
    (found,) = inferencer(image())
    assert np.isfinite(found['pred_scores']).all()
    assert found['pred_class'] in CLASSES['classes']


@pytest.mark.filterwarnings('ignore::UserWarning')
@pytest.mark.parametrize('kind', ['distilled', 'contrastive'])
def test_mmdet_builds_and_infers(kind, starts, tmp_path):
    pytest.importorskip('mmdet')
    from mmdet.apis import DetInferencer, inference_detector, init_detector

    config, checkpoint, model = started('mmdet', starts[kind], tmp_path)
    built = init_detector(config, checkpoint, device='cpu')
    x = torch.randn(1, 3, 64, 64)
    for features, expected in zip(built.extract_feat(x), model.extract_feat(x), strict=True):
        assert torch.equal(features, expected)
    expected = inference_detector(built, image()).pred_instances
    assert len(expected) > 0
    found = DetInferencer(config, checkpoint, device='cpu', show_progress=False)(image(), return_datasamples=True)
    assert torch.equal(found['predictions'][0].pred_instances.scores, expected.scores)


@pytest.mark.filterwarnings('ignore::UserWarning')
@pytest.mark.parametrize('kind', ['distilled', 'contrastive'])
def test_mmseg_builds_and_infers(kind, starts, tmp_path):
    pytest.importorskip('mmseg')
    from mmseg.apis import MMSegInferencer, inference_model, init_model

    config, checkpoint, model = started('mmseg', starts[kind], tmp_path)
    built = init_model(config, checkpoint, device='cpu')
    x = torch.randn(1, 3, 48, 64)
    for features, expected in zip(built.extract_feat(x), model.extract_feat(x), strict=True):
        assert torch.equal(features, expected)
    expected = inference_model(built, image()).seg_logits.data
    found = MMSegInferencer(config, checkpoint, device='cpu')(image(), return_datasamples=True)
    assert torch.equal(found.seg_logits.data, expected)


@pytest.mark.parametrize('host', ['mmpretrain', 'mmdet', 'mmseg'])
def test_files_hold_the_backbone_that_each_host_builds(host, starts):
    pytest.importorskip(host)
    __import__(f'{host}.models')
    with DefaultScope.overwrite_default_scope(host):
        names = MODELS.build(dict(BACKBONE)).state_dict().keys()
    for _, _, backbone in starts.values():
        assert backbone.state_dict().keys() == names
