"""Hook that plots the features of a denoiser during training."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from reprefine.engine.build import unwrap
from reprefine.engine.data_checks.images import read_image
from reprefine.registry import HOOKS

from ..visualization.denoiser_plot import Prediction, denoiser_strip
from .pair_dataset import FeaturePairDataset

DEPRECATED_TYPES = {'DenoiserPictureHook': 'DenoiserVisualizationHook'}


@HOOKS.register_module()
class DenoiserVisualizationHook(Hook):
    """Adds a plot of the features of some images, :func:`~.denoiser_plot.denoiser_strip`, to the visualizer.

    Args:
        interval: Iterations between two plots.
        num: Number of images, the first ones of the dataset.
        image_root: Folder of the images; by default that of the dataset. Without both, the column of images is blank.
        height: Height of a tile in pixels.
    """

    def __init__(self, interval: int = 5000, num: int = 4, image_root: str | None = None, height: int = 128):
        self.interval = interval
        self.num = num
        self.image_root = image_root
        self.height = height

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Add the plot every ``interval`` iterations."""
        if self.every_n_train_iters(runner, self.interval):
            plot = self.draw(unwrap(runner.model), runner.train_dataloader.dataset)
            runner.visualizer.add_image('denoiser', plot, runner.iter + 1)

    def draw(self, model: torch.nn.Module, dataset: FeaturePairDataset) -> np.ndarray:
        """Return the plot, RGB uint8 (H, W, 3), with one row per image.

        Args:
            model: The :class:`~.training.DenoiserTraining`.
            dataset: Dataset of the features.
        """
        root = self.image_root or dataset.image_root
        samples = [dataset[index] for index in range(min(self.num, len(dataset)))]
        return denoiser_strip([self._predict(model, sample, root) for sample in samples], self.height)

    def _predict(self, model: torch.nn.Module, sample: dict[str, Any], root: str | None) -> Prediction:
        device = next(model.parameters()).device
        with torch.no_grad():
            raw, denoised = model.predict(
                **{key: sample[key][None].to(device) for key in ('raw', 'image') if key in sample}
            )
        maps = (features.movedim(0, -1).cpu().numpy() for features in (raw[0], sample['denoised'], denoised[0]))
        return Prediction(None if root is None else read_image(Path(root) / sample['name']), *maps)
