"""Images and components of the views of an image, for plotting."""

import numpy as np
import torch
from torch import Tensor

from ..stage1.pipeline import Stage1
from ..stage1.views import image_seed, render_view


def denormalize(image: Tensor, mean: list[float], std: list[float]) -> np.ndarray:
    """Return a normalised image ``[3, H, W]`` as RGB ``[H, W, 3]``, 8 bit."""
    values = image.movedim(0, -1).cpu() * torch.tensor(std) + torch.tensor(mean)
    return values.clamp(0, 255).round().byte().numpy()


def decompose_views(stage1: Stage1, image: np.ndarray, name: str, count: int = 5) -> list[dict[str, np.ndarray | None]]:
    """Denoise an image and return the components of some random views, and of the whole image last.

    Args:
        stage1: The pipeline.
        image: RGB ``[H, W, 3]``, 8 bit.
        name: Name of the image, which seeds the choice of the views.
        count: Number of random views.

    Returns:
        Arguments of :func:`~.plot.view_tiles`.
    """
    config = stage1.config
    features, views = stage1.extract(image, name)
    (solution,) = stage1.solver.solve([features], [views.coords], [name])
    prepared = stage1.extractor.prepare(image)
    generator = torch.Generator().manual_seed(image_seed(config.seed, name))
    chosen = torch.randperm(len(views.boxes) - 1, generator=generator)[:count].tolist()
    decomposed = []
    for index in [*chosen, -1]:
        rendered = denormalize(render_view(prepared, views.boxes[index]), config.mean, config.std)
        components = solution.components(features[index], views.coords[index], config.recenter)
        arrays = {key: None if value is None else value.numpy() for key, value in components.items()}
        decomposed.append(dict(image=rendered, **arrays))
    return decomposed
