"""What a teacher's features are worth at each timestep, measured without a student."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from reprefine.engine.errors import UserError

from ..functional import effective_rank
from ..labels import labels_of


class Probe(NamedTuple):
    """Worth of the features at one timestep.

    Attributes:
        timestep: The timestep.
        accuracy: Per cent of held-out images that a linear classifier gets right; NaN without labels.
        rank: Effective rank of the pooled features, or of whole maps.
        width: Numbers that a feature of the rank has.
    """

    timestep: int
    accuracy: float
    rank: float
    width: int


def take_images(model: nn.Module, loader: Iterable[Any], count: int) -> tuple[Tensor, Tensor | None]:
    """Return the first images as the teacher sees them, ``[N, C, H, W]``, and their classes ``[N]``.

    Args:
        model: A distiller.
        loader: Batches of its data.
        count: Largest number of images.

    Returns:
        Images and classes; None instead of the classes if an image has none.
    """
    images, labels, found = [], [], 0
    for batch in loader:
        data = model.data_preprocessor(batch, False)
        images.append(model.teacher.prepare(data['inputs'], model.data_preprocessor.mean, model.data_preprocessor.std))
        labels.append(labels_of(data.get('data_samples'), images[-1].device))
        found += len(images[-1])
        if found >= count:
            break
    if not images:
        raise UserError('the data loader has no images')
    known = None if any(label is None or (label < 0).any() for label in labels) else torch.cat(labels)[:count]
    return torch.cat(images)[:count], known


@torch.no_grad()
def last_maps(teacher: nn.Module, images: Tensor, labels: Tensor | None, t: int, batch: int = 64) -> Tensor:
    """Return the maps ``[N, C, H, W]`` of the teacher's last layer at one timestep."""
    results = []
    for start in range(0, len(images), batch):
        part = images[start : start + batch]
        times = torch.full((len(part),), t, device=images.device)
        results.append(teacher(part, times, None if labels is None else labels[start : start + batch])[-1])
    return torch.cat(results)


def probe(
    teacher: nn.Module,
    images: Tensor,
    labels: Tensor | None,
    timesteps: Sequence[int],
    seed: int = 0,
    whole_maps: bool = False,
) -> list[Probe]:
    """Measure every timestep of a grid on the same images and the same split, 70 % to fit and 30 % to judge.

    Args:
        teacher: The teacher.
        images: From :func:`take_images`.
        labels: Classes ``[N]`` or None.
        timesteps: The grid.
        seed: Seed of the split.
        whole_maps: Whether the rank is that of maps with all their positions, as published, not of their means.
    """
    results = []
    for t in tqdm(timesteps, desc='timesteps', unit='t'):
        maps = last_maps(teacher, images, labels, t).cpu().double()
        feats = maps.mean(dim=(2, 3))
        ranked = maps.flatten(1) if whole_maps else feats
        accuracy = float('nan') if labels is None else linear_accuracy(feats.numpy(), labels.cpu().numpy(), seed)
        results.append(Probe(t, accuracy, effective_rank(ranked), ranked.shape[1]))
    return results


def linear_accuracy(feats: np.ndarray, labels: np.ndarray, seed: int = 0) -> float:
    """Return :func:`fitted_accuracy` on 70 % of features ``[N, C]``, judged on the others.

    Raises:
        UserError: If the classes are too small to be split.
    """
    from sklearn.model_selection import train_test_split

    try:
        fit_x, test_x, fit_y, test_y = train_test_split(
            feats, labels, test_size=0.3, random_state=seed, stratify=labels
        )
    except ValueError as error:
        raise UserError(f'too few images for a probe: {error}; take more with --images') from error
    return fitted_accuracy(fit_x, fit_y, test_x, test_y)


def fitted_accuracy(fit_x: np.ndarray, fit_y: np.ndarray, test_x: np.ndarray, test_y: np.ndarray) -> float:
    """Return the accuracy in per cent of logistic regression on standardised features.

    Args:
        fit_x: Features to fit to, ``[N, C]``.
        fit_y: Their classes ``[N]``.
        test_x: Features to judge on, ``[M, C]``.
        test_y: Their classes ``[M]``.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    return 100 * model.fit(fit_x, fit_y).score(test_x, test_y)
