"""The picture of several classifiers' Grad-CAM maps on the same images."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from mmengine.config import Config
from torch import Tensor, nn

from reprefine.engine.errors import UserError
from reprefine.visualization.pictures import to_rgb8

from .attribution import grad_cam
from .plot import overlay, save
from .trained import batches_of, classify


def draw_cams(
    models: Mapping[str, nn.Module], cfg: Config, out: Path, num: int, layer: str | None = None, true: bool = False
) -> None:
    """Draw one row an image and one column a model, the image itself first.

    Args:
        models: Classifiers in evaluation mode by the name of their column.
        cfg: Config whose test images are taken.
        out: File to write.
        num: Number of images, spread over the test set.
        layer: Name of the layer, default the last stage of the backbone.
        true: Take the true class instead of the predicted one.

    Raises:
        UserError: If a model has no such layer, or is no classifier.
    """
    first = next(iter(models.values()))
    images, classes, pictures = _spread(cfg, first, num)
    bgr = getattr(first.data_preprocessor, '_channel_conversion', False)
    pictures = [to_rgb8(picture.permute(1, 2, 0).numpy(), is_bgr=bgr) for picture in pictures]
    figure = Figure(figsize=(1.7 * (len(models) + 1), 1.9 * len(images)), layout='constrained')
    grid = figure.subplots(len(images), len(models) + 1, squeeze=False)
    for row, picture, label in zip(grid, pictures, classes.tolist(), strict=True):
        _show(row[0], picture, f'class {label}')
    for column, (name, model) in enumerate(models.items(), 1):
        chosen = classes if true else None
        maps, _ = grad_cam(partial(classify, model), _layer(model, layer), images, chosen)
        with torch.no_grad():
            said = classify(model, images).argmax(1)
        for row, (picture, heat, answer) in enumerate(zip(pictures, maps, said.tolist(), strict=True)):
            _show(grid[row][column], overlay(picture, heat.numpy()), f'{name}\nsays {answer}')
    save(figure, out)


def _spread(cfg: Config, model: nn.Module, num: int) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Return images, classes and pictures of ``num`` test samples at equal distances, or all if there are fewer."""
    batches = list(batches_of(cfg, model))
    images, classes = (torch.cat([getattr(batch, name) for batch in batches]) for name in ('images', 'classes'))
    pictures = [picture for batch in batches for picture in batch.pictures]
    chosen = np.unique(np.linspace(0, len(images) - 1, num).round().astype(int))
    return images[chosen], classes[chosen], [pictures[index] for index in chosen]


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
