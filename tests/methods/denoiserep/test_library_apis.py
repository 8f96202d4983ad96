"""The functions and Inferencers of the OpenMMLab libraries, given config and checkpoint of a refined model."""

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
# Small images, and of the detector the best boxes without NMS: which of two overlapping ones it keeps depends on
# rounding.
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
    """Configs and checkpoints of a model, of its deployed form and of the base model, and an image."""

    model: nn.Module
    refined: tuple[str, str]
    deployed: tuple[str, str]
    undenoised: tuple[str, str]
    image: str


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    """The run of each library, made when it is first used."""
    folder, made = tmp_path_factory.mktemp('runs'), {}
    write_images(folder, 1)

    def of(library: str) -> Run:
        pytest.importorskip(library)
        if library not in made:
            made[library] = written(folder, library)
        return made[library]

    return of


def written(data: Path, library: str) -> Run:
    """Write configs and checkpoints of a model whose predictors are no longer near zero."""
    folder = data / library
    folder.mkdir()
    (folder / 'tiny.py').write_text(CONFIGS[library].replace('{root}', str(data)))
    stock = write_config(folder, STOCK[library], 'stock.py')
    refined = write_config(folder, REFINED, 'refined.py')
    cfg = load_config(refined)
    with DefaultScope.overwrite_default_scope(library):
        importlib.import_module(f'{library}.models')
        torch.manual_seed(0)
        model = build_model(cfg).eval()
    with torch.no_grad():
        for layer in denoise_layers(model).values():
            layer.denoiser.weight.mul_(200)
    state = model.state_dict()
    states = dict(trained=state, deployed=reparameterize(model).state_dict())
    states['undenoised'] = {key: state[key] for key in states['deployed']}
    meta = {} if library == 'mmpose' else dict(dataset_meta=dict(classes=[str(i) for i in range(CLASSES[library])]))
    files = {name: str(folder / f'{name}.pth') for name in states}
    for name, file in files.items():
        torch.save(dict(state_dict=states[name], meta=meta), file)
    image = str(data / 'images/0.png')
    return Run(model, (refined, files['trained']), (stock, files['deployed']), (stock, files['undenoised']), image)


def by_function(library: str, config: str, checkpoint: str, image: str) -> tuple[nn.Module, np.ndarray]:
    """The model that the library's function builds from files, and its prediction for the image."""
    apis = importlib.import_module(f'{library}.apis')
    if library == 'mmpretrain':
        model = apis.get_model(config, pretrained=checkpoint, device='cpu')
        return model, apis.ImageClassificationInferencer(model, device='cpu')(image)[0]['pred_scores']
    if library == 'mmdet':
        model = apis.init_detector(config, checkpoint, palette='random', device='cpu')
        return model, apis.inference_detector(model, image).pred_instances.scores.numpy()
    model = apis.init_model(config, checkpoint, device='cpu')
    if library == 'mmseg':
        return model, apis.inference_model(model, image).seg_logits.data.numpy()
    return model, apis.inference_topdown(model, image)[0].pred_instances.keypoint_scores


def by_inferencer(library: str, config: str, checkpoint: str, image: str) -> tuple[nn.Module, np.ndarray]:
    """The model of the library's Inferencer, and its prediction for the image."""
    apis = importlib.import_module(f'{library}.apis')
    if library == 'mmpretrain':
        inferencer = apis.ImageClassificationInferencer(config, pretrained=checkpoint, device='cpu')
        return inferencer.model, inferencer(image)[0]['pred_scores']
    if library == 'mmdet':
        inferencer = apis.DetInferencer(config, checkpoint, palette='random', device='cpu', show_progress=False)
        return inferencer.model, np.array(inferencer(image)['predictions'][0]['scores'])
    if library == 'mmseg':
        names = dict(classes=['a', 'b'], palette=[[0] * 3, [9] * 3])
        inferencer = apis.MMSegInferencer(config, checkpoint, device='cpu', **names)
        return inferencer.model, inferencer(image, return_datasamples=True).seg_logits.data.numpy()
    files = dict(pose2d=config, pose2d_weights=checkpoint, det_model='whole_image')
    inferencer = apis.MMPoseInferencer(**files, device='cpu', show_progress=False)
    scores = next(inferencer(image))['predictions'][0][0]['keypoint_scores']
    return inferencer.inferencer.model, np.array(scores)


@pytest.mark.filterwarnings('ignore::UserWarning')
@pytest.mark.parametrize('way', [by_function, by_inferencer])
@pytest.mark.parametrize('library', CONFIGS)
def test_config_and_checkpoint_give_the_model_with_the_predictions_of_its_deployed_form(library, way, runs):
    run = runs(library)
    model, found = way(library, *run.refined, run.image)
    assert isinstance(model, DenoiseRep)
    assert not model.training
    state = model.state_dict()
    for key, value in run.model.state_dict().items():
        assert torch.equal(state[key], value), key
    stock, expected = way(library, *run.deployed, run.image)
    assert not isinstance(stock, DenoiseRep)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)
    _, undenoised = way(library, *run.undenoised, run.image)
    assert not np.allclose(found, undenoised, rtol=1e-3, atol=1e-5)
