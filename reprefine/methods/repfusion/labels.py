"""Class labels: those of the data samples, and the classes of a class-conditional teacher."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from reprefine.engine.errors import UserError
from reprefine.engine.files import read_text

from .functional import map_labels


def get_labels(data_samples: list | None, device: torch.device) -> Tensor | None:
    """Return the labels ``[N]`` of the samples, -1 for an unlabelled one; None without samples."""
    if not data_samples:
        return None
    unlabelled = torch.tensor([-1])
    labels = [sample.gt_label.to(device) if 'gt_label' in sample else unlabelled.to(device) for sample in data_samples]
    return torch.cat(labels).clamp(min=-1)


def label_range(labels: Tensor | None) -> tuple[int, int]:
    """Return the lowest and the highest label, with one device synchronisation; -1 and -1 for None."""
    return (-1, -1) if labels is None else tuple(torch.stack(labels.aminmax()).tolist())


def build_label_map(label_map: Sequence[int] | str | None, num_classes: int) -> Tensor:
    """Return the teacher's class of each of the ``K`` classes of the dataset, ``[K]``.

    Args:
        label_map: The classes themselves, ``'identity'``, or a file for :func:`imagenet_indices`.
        num_classes: Number of classes of the teacher.

    Raises:
        UserError: If it is None, or contains a class that the teacher does not have.
    """
    if label_map is None:
        raise UserError(
            f'the teacher is conditioned on {num_classes} classes: give label_map, its class of each class of the '
            'dataset'
        )
    if isinstance(label_map, str):
        label_map = list(range(num_classes)) if label_map == 'identity' else imagenet_indices(label_map)
    if outside := [label for label in label_map if not 0 <= label < num_classes]:
        raise UserError(
            f"label_map contains {outside[0]}, which is outside 0..{num_classes - 1}, the teacher's classes"
        )
    return torch.tensor(list(label_map))


def check_labels(labels: Tensor | None, num_classes: int, setting: str) -> None:
    """Check that every image has a label of the teacher; others would index another class, or fail on the device.

    Args:
        labels: Labels of the dataset ``[N]``; -1 for an unlabelled image.
        num_classes: Number of labels that the teacher accepts.
        setting: Setting that defines this number, for the message.

    Raises:
        UserError: If an image is unlabelled, or its label is too high.
    """
    low, high = label_range(labels)
    if low < 0:
        raise UserError(
            'the UNet is class-conditional, but images of the data have no labels (-1): label all of them, or use an '
            'unconditional UNet'
        )
    if high >= num_classes:
        raise UserError(f'label {high} of the dataset is not in {setting}, which has {num_classes} classes')


def imagenet_indices(wnids: str | Path) -> list[int]:
    """Return the ImageNet-1k class index of each WordNet id in a file of one id a line, in sorted order of the ids.

    Raises:
        UserError: If the file is missing, or contains another id.
    """
    from timm.data import ImageNetInfo

    path = Path(wnids)
    if not path.is_file():
        raise UserError(f'label_map: no file {wnids}: give a file of WordNet ids, a list of classes, or identity')
    return map_labels(read_text(path).split(), ImageNetInfo().label_names())
