"""The functions and Inferencers of the host libraries, given config and checkpoint of a refined model."""

import importlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from torch import nn

from reprefine.engine.build import build_model
from reprefine.engine.cli.launch import load_config
from reprefine.methods.denoiserep import DenoiseRep, denoise_layers, reparameterize
from tests.helpers.tiny_hosts import CONFIGS, write_config, write_images

REFINED = """
_base_ = './stock.py'
model = dict(type='reprefine.DenoiseRep', base_type={{_base_.model.type}}, denoise=dict(include=r'backbone'))
"""
# Small images, and of the detector the best boxes as they are: which of two overlapping ones stays is a matter of luck.
STOCK = {
    'mmpretrain': """
_base_ = './tiny.py'
test_dataloader = dict(dataset=dict(pipeline=[
    dict(type='LoadImageFromFile'), dict(type='Resize', scale=(40, 32)), dict(type='PackInputs')]))
""",
    'mmdet': """
_base_ = './tiny.py'
test_dataloader = dict(dataset=dict(pipeline=[
    dict(type='LoadImageFromFile'), dict(type='Resize', scale=(64, 48), keep_ratio=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'))]))
model = dict(test_cfg=dict(score_thr=0.0, nms=dict(iou_threshold=1.0), max_per_img=20))
""",
    'mmseg': """
_base_ = './tiny.py'
test_pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')]
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
""",
    'mmpose': "_base_ = './tiny.py'",
}
CLASSES = {'mmpretrain': 2, 'mmdet': 2, 'mmseg': 19}


class Run(NamedTuple):
    """Configs and checkpoints of a model, of its folded form and of its base with the weights as they are; an image."""

    model: nn.Module
    refined: tuple[str, str]
    folded: tuple[str, str]
    undenoised: tuple[str, str]
    image: str


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    """The run of each host library, made when it is asked for."""
    folder, made = tmp_path_factory.mktemp('runs'), {}
    write_images(folder, 1)

    def of(host: str) -> Run:
        pytest.importorskip(host)
        if host not in made:
            made[host] = written(folder, host)
        return made[host]

    return of


def written(data: Path, host: str) -> Run:
    """Write configs and checkpoints of a model whose predictors are no longer near zero."""
    folder = data / host
    folder.mkdir()
    (folder / 'tiny.py').write_text(CONFIGS[host].replace('{root}', str(data)))
    stock = write_config(folder, STOCK[host], 'stock.py')
    refined = write_config(folder, REFINED, 'refined.py')
    cfg = load_config(refined)
    with DefaultScope.overwrite_default_scope(host):
        importlib.import_module(f'{host}.models')
        torch.manual_seed(0)
        model = build_model(cfg).eval()
    with torch.no_grad():
        for layer in denoise_layers(model).values():
            layer.denoiser.weight.mul_(200)
    state = model.state_dict()
    states = dict(trained=state, folded=reparameterize(model).state_dict())
    states['undenoised'] = {key: state[key] for key in states['folded']}
    meta = {} if host == 'mmpose' else dict(dataset_meta=dict(classes=[str(i) for i in range(CLASSES[host])]))
    files = {name: str(folder / f'{name}.pth') for name in states}
    for name, file in files.items():
        torch.save(dict(state_dict=states[name], meta=meta), file)
    image = str(data / 'images/0.png')
    return Run(model, (refined, files['trained']), (stock, files['folded']), (stock, files['undenoised']), image)


def by_function(host: str, config: str, checkpoint: str, image: str) -> tuple[nn.Module, np.ndarray]:
    """The model that the function of the host builds from files, and what it predicts for the image."""
    apis = importlib.import_module(f'{host}.apis')
    if host == 'mmpretrain':
        model = apis.get_model(config, pretrained=checkpoint, device='cpu')
        return model, apis.ImageClassificationInferencer(model, device='cpu')(image)[0]['pred_scores']
    if host == 'mmdet':
        model = apis.init_detector(config, checkpoint, palette='random', device='cpu')
        return model, apis.inference_detector(model, image).pred_instances.scores.numpy()
    model = apis.init_model(config, checkpoint, device='cpu')
    if host == 'mmseg':
        return model, apis.inference_model(model, image).seg_logits.data.numpy()
    return model, apis.inference_topdown(model, image)[0].pred_instances.keypoint_scores


def by_inferencer(host: str, config: str, checkpoint: str, image: str) -> tuple[nn.Module, np.ndarray]:
    """The model of the Inferencer of the host, and what it predicts for the image."""
    apis = importlib.import_module(f'{host}.apis')
    if host == 'mmpretrain':
        inferencer = apis.ImageClassificationInferencer(config, pretrained=checkpoint, device='cpu')
        return inferencer.model, inferencer(image)[0]['pred_scores']
    if host == 'mmdet':
        inferencer = apis.DetInferencer(config, checkpoint, palette='random', device='cpu', show_progress=False)
        return inferencer.model, np.array(inferencer(image)['predictions'][0]['scores'])
    if host == 'mmseg':
        names = dict(classes=['a', 'b'], palette=[[0] * 3, [9] * 3])
        inferencer = apis.MMSegInferencer(config, checkpoint, device='cpu', **names)
        return inferencer.model, inferencer(image, return_datasamples=True).seg_logits.data.numpy()
    files = dict(pose2d=config, pose2d_weights=checkpoint, det_model='whole_image')
    inferencer = apis.MMPoseInferencer(**files, device='cpu', show_progress=False)
    scores = next(inferencer(image))['predictions'][0][0]['keypoint_scores']
    return inferencer.inferencer.model, np.array(scores)


@pytest.mark.filterwarnings('ignore::UserWarning')
@pytest.mark.parametrize('way', [by_function, by_inferencer])
@pytest.mark.parametrize('host', CONFIGS)
def test_config_and_checkpoint_give_the_model_and_what_its_folded_form_predicts(host, way, runs):
    run = runs(host)
    model, found = way(host, *run.refined, run.image)
    assert isinstance(model, DenoiseRep)
    assert not model.training
    state = model.state_dict()
    for key, value in run.model.state_dict().items():
        assert torch.equal(state[key], value), key
    stock, expected = way(host, *run.folded, run.image)
    assert not isinstance(stock, DenoiseRep)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)
    _, undenoised = way(host, *run.undenoised, run.image)
    assert not np.allclose(found, undenoised, rtol=1e-3, atol=1e-5)
