"""The data set of raw features and their denoised counterparts."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import print_log
from torch import Tensor
from torch.utils.data import Dataset

from reprefine.engine.datasets.faults import UnreadableSample
from reprefine.engine.errors import UserError
from reprefine.registry import DATASETS

from .data import prepare_image, read_image
from .files import FeaturePairs, first_difference


@DATASETS.register_module()
class FeaturePairDataset(Dataset):
    """Pairs that per-image denoising has stored; no image is read unless raw features are to be computed.

    A sample has ``denoised`` and ``raw``, or ``image`` in place of the latter, and the ``name`` of the image.

    Args:
        data_root: Folder of all pairs.
        model_id: Folder of the model below it.
        ann_file: File with one image name a line; all stored pairs if None. Images without a pair are reported and
            left out.
        indices: Use only this many images, the first ones.
        image_root: Folder of the images. With it samples hold images, and raw features need not be stored.
        target: What the denoiser learns to give: ``denoised``, or ``raw`` for a control that learns to change nothing.
        image: Size and statistics with which images are loaded, arguments of :func:`~.data.prepare_image`.

    Raises:
        UserError: If no pair is left, the list does not exist, or images are loaded in another way than the targets'.
    """

    metainfo: dict[str, Any] = {}

    def __init__(
        self,
        data_root: str,
        model_id: str,
        ann_file: str | None = None,
        indices: int | None = None,
        image_root: str | None = None,
        target: str = 'denoised',
        image: dict[str, Any] | None = None,
    ):
        if target not in ('denoised', 'raw'):
            raise UserError(f"FeaturePairDataset: target is 'denoised' or 'raw', not {target!r}")
        self.image_root, self.image, self.target = image_root, image, target
        names = None if ann_file is None else _read_list(ann_file)[:indices]
        self.pairs = FeaturePairs(data_root, model_id, names, with_raw=image_root is None)
        self.names = self.pairs.names[:indices] if names is None else self._those_stored(names)
        if not self.names:
            raise UserError(
                f'{data_root} holds no pair of {model_id}; write them with tools/dvt/denoise_images.py, '
                'or point --data-root at them'
            )
        self.shape = self._first_shape()
        if image_root is not None:
            self._check_image()

    def _check_image(self) -> None:
        """Refuse to load images in another way than those that the targets come from."""
        image = dict(self.image or {})
        names = dict(size='input_size', mean='mean', std='std', interpolation='resize_interpolation')
        wanted = {name: image[key] for key, name in names.items() if key in image}
        if difference := first_difference(self.pairs.read_meta(), wanted):
            raise UserError(
                f'{self.pairs.meta_file}: the targets were made with {difference}; '
                'load images as per-image denoising did (train_dataloader.dataset.image)'
            )

    def _those_stored(self, names: Sequence[str]) -> list[str]:
        stored = [name for name in names if self.pairs.is_stored(name)]
        if missing := sorted(set(names) - set(stored)):
            print_log(f'{len(missing)} of {len(names)} listed images have no pair, such as {missing[0]}', 'current', 30)
        return stored

    def _first_shape(self) -> tuple[int, ...]:
        """Return the shape of the first target that is whole; the last one is not forgiven."""
        for name in self.names[:-1]:
            with suppress(UnreadableSample):
                return self.pairs.denoised(name).shape
        return self.pairs.denoised(self.names[-1]).shape

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.names)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return the sample of :meth:`prepare_data`, or what stands in for one that cannot be read."""
        return self.prepare_data(index)

    def prepare_data(self, index: int) -> dict[str, Any]:
        """Read one sample, features as (C, h, w) in float32.

        Raises:
            UnreadableSample: If a file is missing or damaged.
            UserError: If the grid is not that of the first sample.
        """
        name = self.names[index]
        target = getattr(self.pairs, self.target)(name)
        sample = dict(name=name, denoised=self._channels_first(name, target))
        if self.image_root is None:
            return sample | dict(raw=self._channels_first(name, self.pairs.raw(name)))
        return sample | dict(image=prepare_image(read_image(Path(self.image_root) / name), **self.image))

    def _channels_first(self, name: str, features: np.ndarray) -> Tensor:
        if features.shape != self.shape:
            raise UserError(
                f'{name}: features have shape {features.shape}, those of {self.names[0]} {self.shape}; '
                'denoise all images at one size'
            )
        return torch.from_numpy(features.transpose(2, 0, 1).copy(order='C'))


def _read_list(file: str) -> list[str]:
    try:
        lines = Path(file).read_text().splitlines()
        # The released list starts every line with this folder.
        return [line.strip().removeprefix('data/VOCdevkit/') for line in lines if line.strip()]
    except OSError as error:
        raise UserError(f'{file} cannot be read ({error.strerror}); write it with tools/dataset_tools/') from error
