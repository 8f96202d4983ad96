"""Figure of attribution maps of several classifiers on the same images."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from mmengine.config import Config
from torch import nn

from reprefine.visualization.images import to_rgb8

from ..data_loading import load_evenly_spaced, predict_logits, preprocess_batch
from ..plot import save
from .panels import AttributionOptions, attribution_images


def plot_attributions(
    models: Sequence[tuple[str, nn.Module]], cfg: Config, out: Path, num: int, options: AttributionOptions
) -> None:
    """Plot a row for each image: the image, followed by a column for each model and method.

    Args:
        models: Names and classifiers in evaluation mode; each classifier preprocesses the images itself.
        cfg: Config with the test images, which are resized without a crop.
        out: File to write.
        num: Number of images, evenly spaced over the test set.
        options: Content of the figure.

    Raises:
        UserError: If a model is not a classifier, or lacks the layer of Grad-CAM.
    """
    data = load_evenly_spaced(cfg, num, options.side)
    first = models[0][1]
    _, classes, raw_images = preprocess_batch(first, data)
    is_bgr = getattr(first.data_preprocessor, '_channel_conversion', False)
    rgb_images = [to_rgb8(image.permute(1, 2, 0).numpy(), is_bgr=is_bgr) for image in raw_images]
    count = 1 + len(models) * len(options.methods)
    figure = Figure(figsize=(1.7 * count, 1.9 * len(rgb_images)), layout='constrained')
    columns = iter(figure.subplots(len(rgb_images), count, squeeze=False).T)
    for axes, image, label in zip(next(columns), rgb_images, classes.tolist(), strict=True):
        _show(axes, image, f'class {label}')
    for name, model in models:
        images = preprocess_batch(model, data).images
        with torch.no_grad():
            predicted = predict_logits(model, images).argmax(1)
        explained = classes if options.of_true_class else predicted
        for method in options.methods:
            panels = attribution_images(method, model, images, rgb_images, explained, options)
            for axes, panel, label in zip(next(columns), panels, predicted.tolist(), strict=True):
                _show(axes, panel, f'{name}\n{method}: predicts {label}')
    save(figure, out)


def _show(axes: Axes, image: np.ndarray, title: str) -> None:
    axes.imshow(image)
    axes.set_title(title, fontsize=6)
    axes.set_axis_off()
