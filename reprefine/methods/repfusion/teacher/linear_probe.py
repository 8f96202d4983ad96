"""Evaluation of a teacher's features at each timestep, without a student: linear probe and effective rank."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from reprefine.engine.errors import UserError

from ..functional import effective_rank
from ..labels import get_labels


class ProbeResult(NamedTuple):
    """Evaluation of the features at one timestep.

    Attributes:
        timestep: The timestep.
        accuracy: Accuracy of a linear classifier on held-out images in per cent; NaN without labels.
        rank: Effective rank of the pooled features, or of the maps.
        width: Dimension of the features of the rank.
    """

    timestep: int
    accuracy: float
    rank: float
    width: int


def load_images(model: nn.Module, loader: Iterable[Any], count: int) -> tuple[Tensor, Tensor | None]:
    """Return the first images of a data loader as inputs of the teacher.

    Args:
        model: A distiller.
        loader: Data loader.
        count: Maximum number of images.

    Returns:
        Images ``[N, C, H, W]`` and labels ``[N]``; None instead of the labels if an image is unlabelled.

    Raises:
        UserError: If the loader is empty.
    """
    images, labels, loaded = [], [], 0
    for batch in loader:
        data = model.data_preprocessor(batch, False)
        images.append(model.teacher.prepare(data['inputs'], model.data_preprocessor.mean, model.data_preprocessor.std))
        labels.append(get_labels(data.get('data_samples'), images[-1].device))
        loaded += len(images[-1])
        if loaded >= count:
            break
    if not images:
        raise UserError('the training data loader is empty: choose a dataset with images')
    has_labels = all(label is not None and (label >= 0).all() for label in labels)
    return torch.cat(images)[:count], torch.cat(labels)[:count] if has_labels else None


@torch.no_grad()
def last_layer_maps(teacher: nn.Module, images: Tensor, labels: Tensor | None, t: int, batch: int = 64) -> Tensor:
    """Return the maps ``[N, C, H, W]`` of the teacher's last recorded layer at one timestep.

    Args:
        teacher: A :class:`DiffusionTeacher`.
        images: From :func:`load_images`.
        labels: Labels ``[N]`` for a class-conditional teacher, or None.
        t: The timestep.
        batch: Batch size.
    """
    maps = []
    for start in range(0, len(images), batch):
        inputs = images[start : start + batch]
        timesteps = torch.full((len(inputs),), t, device=images.device)
        maps.append(teacher(inputs, timesteps, None if labels is None else labels[start : start + batch])[-1])
    return torch.cat(maps)


def probe_timesteps(
    teacher: nn.Module,
    images: Tensor,
    labels: Tensor | None,
    timesteps: Sequence[int],
    seed: int = 0,
    whole_maps: bool = False,
) -> list[ProbeResult]:
    """Evaluate the features at each timestep, on the same images and the same split into 70 % and 30 %.

    Args:
        teacher: A :class:`DiffusionTeacher`.
        images: From :func:`load_images`.
        labels: Labels ``[N]`` or None.
        timesteps: The timesteps.
        seed: Seed of the split.
        whole_maps: Take the rank of flattened maps, as published, instead of pooled features.
    """
    results = []
    for t in tqdm(timesteps, desc='timesteps', unit='t'):
        maps = last_layer_maps(teacher, images, labels, t).cpu().double()
        pooled = maps.mean(dim=(2, 3))
        ranked = maps.flatten(1) if whole_maps else pooled
        accuracy = float('nan') if labels is None else linear_probe_accuracy(pooled.numpy(), labels.cpu().numpy(), seed)
        results.append(ProbeResult(t, accuracy, effective_rank(ranked), ranked.shape[1]))
    return results


def linear_probe_accuracy(feats: np.ndarray, labels: np.ndarray, seed: int = 0) -> float:
    """Return the accuracy of a linear classifier that is fitted on 70 % of the features and evaluated on the others.

    Args:
        feats: Features ``[N, C]``.
        labels: Labels ``[N]``.
        seed: Seed of the split.

    Returns:
        Per cent.

    Raises:
        UserError: If a class is too small for the split.
    """
    from sklearn.model_selection import train_test_split

    try:
        train_x, test_x, train_y, test_y = train_test_split(
            feats, labels, test_size=0.3, random_state=seed, stratify=labels
        )
    except ValueError as error:
        raise UserError(f'too few images for a probe: {error}; increase --images') from error
    return logistic_regression_accuracy(train_x, train_y, test_x, test_y)


def logistic_regression_accuracy(
    train_x: np.ndarray, train_y: np.ndarray, test_x: np.ndarray, test_y: np.ndarray
) -> float:
    """Return the accuracy in per cent of logistic regression on standardised features.

    Args:
        train_x: Training features ``[N, C]``.
        train_y: Training labels ``[N]``.
        test_x: Test features ``[M, C]``.
        test_y: Test labels ``[M]``.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    return 100 * model.fit(train_x, train_y).score(test_x, test_y)
