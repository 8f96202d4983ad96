"""DenoiseRep over a detector whose neck and head have disentangled convolutions, which all levels share."""

from collections.abc import Iterator

import pytest
import torch

from reprefine.methods.denoiserep.convert import denoise_layers
from reprefine.methods.pddr import PDConv
from reprefine.methods.pddr.plain import pd_layers, plain_state_dict
from tests.combinations import cells
from tests.configs.small_networks import small_networks

BASE = 'pddr/detection/retinanet_r50-pda_pda-fpn-head_1x_coco'
PLAIN = 'baselines/detection/retinanet_r50_fpn_1x_coco'


@pytest.fixture(scope='module', autouse=True)
def networks() -> Iterator[None]:
    with small_networks():
        yield


@pytest.fixture(scope='module')
def refined(tmp_path_factory, toy_folder) -> cells.Cell:
    denoise = "include=['fpn_convs', 'bbox_head', r'layer4.*conv2']"
    return cells.train(cells.denoised(BASE, denoise, tmp_path_factory.mktemp('cell'), toy_folder))


def test_it(refined, toy_folder, tmp_path):
    model, run = refined.trained(), cells.on(torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    print('LAYERS', {n: type(l).__name__ for n, l in denoise_layers(model).items()})
    w = [refined.weights(i) for i in (1,2,4)]
    print('FIRST', cells.moved(w[0], w[1]) ^ cells.predictors(model))
    print('SECOND', (w[0].keys() - model.added_keys) ^ cells.moved(w[1], w[2]))
    cells.assert_resumes(refined)
    cells.assert_gradients(refined, cells.brief(cells.tree_config(BASE), tmp_path, toy_folder))
    cells.assert_every_predictor_counts(model, run)
    folded = cells.assert_folds(model, run, lambda module: isinstance(module, PDConv) and not module.deploy)
    plain = cells.brief(cells.tree_config(PLAIN), tmp_path / 'plain', toy_folder)
    cells.assert_tests_alike(refined, model, plain, plain_state_dict(folded), run)
