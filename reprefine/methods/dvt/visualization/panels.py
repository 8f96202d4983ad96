"""What the views of an image look like and how their features were split, ready to be drawn."""

import numpy as np
import torch
from torch import Tensor

from ..stage1.pipeline import Stage1
from ..stage1.views import image_seed, render_view


def shown_image(image: Tensor, mean: list[float], std: list[float]) -> np.ndarray:
    """Return a normalised image ``[3, H, W]`` as RGB ``[H, W, 3]``, 8 bit."""
    values = image.movedim(0, -1).cpu() * torch.tensor(std) + torch.tensor(mean)
    return values.clamp(0, 255).round().byte().numpy()


def explained_views(stage1: Stage1, image: np.ndarray, name: str, count: int = 5) -> list[dict[str, np.ndarray | None]]:
    """Denoise an image and return some of its random views, and the whole image last.

    Args:
        stage1: Network and solver.
        image: RGB ``[H, W, 3]``, 8 bit.
        name: Its name, on which the choice depends.
        count: Number of random views.

    Returns:
        Arguments of :func:`~.plot.view_tiles`.
    """
    views, prepared = stage1.views(name), stage1.prepare(image)
    features = stage1.features(prepared, views)
    (solution,) = stage1.solve([features], [views], [name])
    generator = torch.Generator().manual_seed(image_seed(stage1.config.seed, name))
    chosen = torch.randperm(len(views.boxes) - 1, generator=generator)[:count].tolist()
    shown = []
    for index in [*chosen, -1]:
        picture = shown_image(render_view(prepared, views.boxes[index]), stage1.config.mean, stage1.config.std)
        maps = stage1.maps(solution, features[index], views.coords[index])
        arrays = {key: None if value is None else value.numpy() for key, value in maps.items()}
        shown.append(dict(image=picture, **arrays))
    return shown
