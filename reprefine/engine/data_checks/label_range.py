"""Labels that are no class of their data set, found when the sample is read."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from reprefine.engine.errors import UserError

from .nesting import class_names


class LabelRange(NamedTuple):
    """Which labels the samples of a data set may have.

    Attributes:
        classes: Number of classes.
        ignored: Value of a mask that is left out of training and metrics; None if the data set has no masks.
        reduced: Whether masks have been read with 0 as no class, and the others lowered by 1.
    """

    classes: int
    ignored: int | None
    reduced: bool

    @classmethod
    def of(cls, dataset: Any) -> 'LabelRange | None':
        """Return the range of a data set, None if it does not state its classes."""
        classes = len(class_names(dataset))
        ignored = getattr(dataset, 'ignore_index', None)
        return cls(classes, ignored, bool(getattr(dataset, 'reduce_zero_label', False))) if classes else None

    def check_labels(self, file: str, labels: Iterable[int]) -> None:
        """Refuse a sample with a label that is no class.

        Args:
            file: Its image, for the message.
            labels: Its labels.

        Raises:
            UserError: With the image and the label.
        """
        for label in labels:
            if not 0 <= label < self.classes:
                raise UserError(
                    f'image {file}: label {label} is no class, they are numbered 0 to '
                    f"{self.classes - 1}: correct the annotation, or the data set's classes"
                )

    def classes_of_mask(self, sample: Mapping[str, Any]) -> list[int]:
        """Return the classes in the mask ``gt_seg_map`` of a sample, none if it has none."""
        mask = sample.get('gt_seg_map')
        if self.ignored is None or mask is None:
            return []
        return [value for value in np.unique(mask).tolist() if value != self.ignored]

    def check_mask(self, sample: Mapping[str, Any]) -> None:
        """Refuse a sample whose mask ``gt_seg_map`` has a value that is neither a class nor ignored.

        Raises:
            UserError: With the mask, the value and the classes.
        """
        mask = sample.get('gt_seg_map')
        if self.ignored is None or mask is None or mask.max(initial=0) < self.classes:
            return
        wrong = (mask >= self.classes) & (mask != self.ignored)
        if wrong.any():
            value = int(mask[wrong].max())
            read = f' ({value + 1} in the file, reduce_zero_label)' if self.reduced else ''
            raise UserError(
                f'mask {sample.get("seg_map_path", "")}: value {value}{read} is no class, they are numbered 0 to '
                f"{self.classes - 1}, and {self.ignored} is ignored: correct the mask, or the data set's classes"
            )
