"""Classes of images: those of the samples, and those that a conditioned teacher calls them by."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from reprefine.engine.errors import UserError
from reprefine.engine.files import read_text

from .functional import map_labels


def labels_of(data_samples: list | None, device: torch.device) -> Tensor | None:
    """Return the classes ``[N]`` of the samples, -1 for one without; None if there are no samples."""
    if not data_samples:
        return None
    unknown = torch.tensor([-1])
    labels = [sample.gt_label.to(device) if 'gt_label' in sample else unknown.to(device) for sample in data_samples]
    return torch.cat(labels).clamp(min=-1)


def label_range(labels: Tensor | None) -> tuple[int, int]:
    """Return the lowest and the highest label, -1 and -1 if there are none. It waits for the device once."""
    return (-1, -1) if labels is None else tuple(torch.stack(labels.aminmax()).tolist())


def label_table(label_map: Sequence[int] | str | None, classes: int) -> Tensor:
    """Return the teacher's class ``[K]`` of each of the data set's ``K`` classes.

    Args:
        label_map: The classes themselves, ``'identity'``, or a file for :func:`imagenet_indices`.
        classes: Number of the teacher's classes.

    Raises:
        UserError: If there is none, or it names a class that the teacher does not have.
    """
    if label_map is None:
        raise UserError(
            f'the teacher is conditioned on {classes} classes: give label_map, its class for each of the data set'
        )
    if isinstance(label_map, str):
        label_map = list(range(classes)) if label_map == 'identity' else imagenet_indices(label_map)
    if not all(0 <= label < classes for label in label_map):
        raise UserError(f'label_map names a class outside 0..{classes - 1}, those of the teacher')
    return torch.tensor(list(label_map))


def check_labels(labels: Tensor | None, classes: int, table: str) -> None:
    """Require a class for every image; one that the table lacks would give the features of another class, or crash.

    Args:
        labels: Classes of the data set ``[N]``; -1 stands for an image without one.
        classes: Length of the table that they are looked up in.
        table: Its name, for messages.

    Raises:
        UserError: If an image has none, or one that is not in the table.
    """
    low, high = label_range(labels)
    if low < 0:
        raise UserError(
            'the UNet is conditioned on classes, but images of the data have no labels (-1): label all of them, or use '
            'a UNet without classes'
        )
    if high >= classes:
        raise UserError(f'label {high} of the data set is not in {table}, which has {classes} classes')


def imagenet_indices(wnids: str | Path) -> list[int]:
    """Return the ImageNet-1k class of each WordNet id in a file of one id a line, the ids taken in sorted order.

    Raises:
        UserError: If the file is missing or names another class.
    """
    from timm.data import ImageNetInfo

    path = Path(wnids)
    if not path.is_file():
        raise UserError(f'label_map: {wnids} is no file of WordNet ids; give one, a list of classes, or identity')
    return map_labels(read_text(path).split(), ImageNetInfo().label_names())
