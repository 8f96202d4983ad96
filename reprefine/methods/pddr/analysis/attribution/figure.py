"""The figure of where several classifiers look on the same images."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from mmengine.config import Config
from torch import nn

from reprefine.visualization.images import to_rgb8

from ..data_loading import batch_for, classify, spread
from ..plot import save
from .panels import MapOptions, panels


def draw_maps(models: Sequence[tuple[str, nn.Module]], cfg: Config, out: Path, num: int, options: MapOptions) -> None:
    """Draw one row an image and one column a model and method, the image itself first.

    Args:
        models: Names of the columns and classifiers in evaluation mode, each of which preprocesses the images itself.
        cfg: Config whose test images are taken, resized without a crop.
        out: File to write.
        num: Number of images, spread over the test set.
        options: What is shown of them.

    Raises:
        UserError: If a model has no such layer, or is no classifier.
    """
    data = spread(cfg, num, options.side)
    first = models[0][1]
    _, classes, pictures = batch_for(first, data)
    bgr = getattr(first.data_preprocessor, '_channel_conversion', False)
    pictures = [to_rgb8(picture.permute(1, 2, 0).numpy(), is_bgr=bgr) for picture in pictures]
    count = 1 + len(models) * len(options.methods)
    figure = Figure(figsize=(1.7 * count, 1.9 * len(pictures)), layout='constrained')
    columns = iter(figure.subplots(len(pictures), count, squeeze=False).T)
    for axes, picture, label in zip(next(columns), pictures, classes.tolist(), strict=True):
        _show(axes, picture, f'class {label}')
    for name, model in models:
        images = batch_for(model, data).images
        with torch.no_grad():
            said = classify(model, images).argmax(1)
        for method in options.methods:
            drawn = panels(method, model, images, pictures, classes if options.of_true_class else said, options)
            for axes, panel, answer in zip(next(columns), drawn, said.tolist(), strict=True):
                _show(axes, panel, f'{name}\n{method}: says {answer}')
    save(figure, out)


def _show(axes: object, picture: np.ndarray, title: str) -> None:
    axes.imshow(picture)
    axes.set_title(title, fontsize=6)
    axes.set_axis_off()
