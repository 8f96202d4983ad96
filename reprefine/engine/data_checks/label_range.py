"""Checks that the labels of a sample are classes of its dataset."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from reprefine.engine.errors import UserError

from .wrappers import class_names


class LabelRange(NamedTuple):
    """The labels that samples of a dataset may have.

    Attributes:
        num_classes: Number of classes.
        ignore_index: Value of a mask that is left out of training and metrics; None if the dataset has no masks.
        reduce_zero_label: Whether masks are loaded with 0 as no class, and the other values lowered by 1.
    """

    num_classes: int
    ignore_index: int | None
    reduce_zero_label: bool

    @classmethod
    def from_dataset(cls, dataset: Any) -> 'LabelRange | None':
        """Return the range of a dataset, None if its classes are unknown."""
        num_classes = len(class_names(dataset))
        ignore_index = getattr(dataset, 'ignore_index', None)
        reduce_zero_label = bool(getattr(dataset, 'reduce_zero_label', False))
        return cls(num_classes, ignore_index, reduce_zero_label) if num_classes else None

    def check_labels(self, file: str, labels: Iterable[int]) -> None:
        """Refuse a sample with a label that is no class.

        Args:
            file: Its image, for the message.
            labels: Its labels.

        Raises:
            UserError: With the image and the label.
        """
        for label in labels:
            if not 0 <= label < self.num_classes:
                raise UserError(
                    f'image {file}: label {label} is no class, they are numbered 0 to '
                    f"{self.num_classes - 1}: correct the annotation, or the dataset's classes"
                )

    def mask_classes(self, sample: Mapping[str, Any]) -> list[int]:
        """Return the classes in the mask ``gt_seg_map`` of a sample, none if it has none."""
        mask = sample.get('gt_seg_map')
        if self.ignore_index is None or mask is None:
            return []
        return [value for value in np.unique(mask).tolist() if value != self.ignore_index]

    def check_mask(self, sample: Mapping[str, Any]) -> None:
        """Refuse a sample whose mask ``gt_seg_map`` has a value that is neither a class nor ignored.

        Raises:
            UserError: With the mask, the value and the classes.
        """
        mask = sample.get('gt_seg_map')
        if self.ignore_index is None or mask is None or mask.max(initial=0) < self.num_classes:
            return
        invalid = (mask >= self.num_classes) & (mask != self.ignore_index)
        if invalid.any():
            value = int(mask[invalid].max())
            in_file = f' ({value + 1} in the file, reduce_zero_label)' if self.reduce_zero_label else ''
            raise UserError(
                f'mask {sample.get("seg_map_path", "")}: value {value}{in_file} is no class, they are numbered 0 to '
                f"{self.num_classes - 1}, and {self.ignore_index} is ignored: correct the mask or the dataset's classes"
            )
