"""The hook that plots features during the training of a denoiser."""

import cv2
import numpy as np
import torch

from reprefine.methods.dvt import DenoiserTraining, DenoiserVisualizationHook, FeaturePairDataset
from reprefine.methods.dvt.visualization.denoiser_plot import Prediction, denoiser_strip
from reprefine.methods.dvt.visualization.plot import GAP, LABEL

from ..pair_files import MODEL, write_pairs
from ..visualization.test_denoiser_plot import tile_of


def test_hook_plots_the_output_of_the_model(tmp_path):
    write_pairs(tmp_path / 'features')
    (tmp_path / 'VOC2012').mkdir()
    for number in range(6):
        cv2.imwrite(str(tmp_path / f'VOC2012/{number}.jpg'), np.full((30, 40, 3), 40 * number, np.uint8))
    dataset = FeaturePairDataset(str(tmp_path / 'features'), MODEL)
    torch.manual_seed(0)
    model = DenoiserTraining(dict(type='reprefine.DVTDenoiser', in_channels=64, grid=3))
    plot = DenoiserVisualizationHook(num=2, image_root=str(tmp_path), height=30).draw(model, dataset)
    sample = dataset[1]
    denoised = model(raw=sample['raw'][None])[0].detach()
    maps = (x.movedim(0, -1).numpy() for x in (sample['raw'], sample['denoised'], denoised))
    expected = denoiser_strip([Prediction(np.full((30, 40, 3), 40, np.uint8), *maps)], height=30)
    assert (plot[LABEL + 30 + GAP :, 40 + GAP :] == expected[LABEL:, 40 + GAP :]).all()
    assert abs(tile_of(plot, 1, 0, (30, 40)).astype(int) - 40).max() <= 2  # but for JPEG
    blank = DenoiserVisualizationHook(num=2, height=30).draw(model, dataset)
    assert (tile_of(blank, 0, 0, (30, 40)) == 255).all()
