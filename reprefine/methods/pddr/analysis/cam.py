"""The picture of several classifiers' Grad-CAM maps on the same images."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from mmengine.config import Config
from torch import nn

from reprefine.engine.errors import UserError
from reprefine.visualization.pictures import to_rgb8

from .attribution import grad_cam
from .plot import overlay, save
from .trained import batch_for, classify, spread


def draw_cams(
    models: Sequence[tuple[str, nn.Module]],
    cfg: Config,
    out: Path,
    num: int,
    layer: str | None = None,
    true: bool = False,
) -> None:
    """Draw one row an image and one column a model, the image itself first.

    Args:
        models: Names of the columns and classifiers in evaluation mode, each of which preprocesses the images itself.
        cfg: Config whose test images are taken.
        out: File to write.
        num: Number of images, spread over the test set.
        layer: Name of the layer, default the last stage of the backbone.
        true: Take the true class instead of the predicted one.

    Raises:
        UserError: If a model has no such layer, or is no classifier.
    """
    data = spread(cfg, num)
    first = models[0][1]
    _, classes, pictures = batch_for(first, data)
    bgr = getattr(first.data_preprocessor, '_channel_conversion', False)
    pictures = [to_rgb8(picture.permute(1, 2, 0).numpy(), is_bgr=bgr) for picture in pictures]
    figure = Figure(figsize=(1.7 * (len(models) + 1), 1.9 * len(pictures)), layout='constrained')
    grid = figure.subplots(len(pictures), len(models) + 1, squeeze=False)
    for row, picture, label in zip(grid, pictures, classes.tolist(), strict=True):
        _show(row[0], picture, f'class {label}')
    for column, (name, model) in enumerate(models, 1):
        images = batch_for(model, data).images
        chosen = classes if true else None
        maps, _ = grad_cam(partial(classify, model), _layer(model, layer), images, chosen)
        with torch.no_grad():
            said = classify(model, images).argmax(1)
        for row, (picture, heat, answer) in enumerate(zip(pictures, maps, said.tolist(), strict=True)):
            _show(grid[row][column], overlay(picture, heat.numpy()), f'{name}\nsays {answer}')
    save(figure, out)


def _layer(model: nn.Module, name: str | None) -> nn.Module:
    name = name or f'backbone.{getattr(model.backbone, "res_layers", ["layer4"])[-1]}'
    try:
        return model.get_submodule(name)
    except AttributeError as error:
        raise UserError(f'--layer {name}: the model has none of that name') from error


def _show(axes: object, picture: np.ndarray, title: str) -> None:
    axes.imshow(picture)
    axes.set_title(title, fontsize=7)
    axes.set_axis_off()
