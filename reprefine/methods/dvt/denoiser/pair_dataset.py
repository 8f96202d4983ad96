"""The data set of raw features and their denoised counterparts."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import print_log
from torch import Tensor
from torch.utils.data import Dataset

from reprefine.engine.data_checks.images import read_image
from reprefine.engine.data_checks.unreadable import UnreadableSample
from reprefine.engine.errors import UserError
from reprefine.registry import DATASETS

from ..stage1.storage import FeaturePairs, first_difference, read_list
from ..stage1.views import INTERPOLATIONS, prepare_image
from .checkpoint import META

# Arguments of prepare_image, and what stage 1 calls them.
IMAGE_META = dict(size='input_size', mean='mean', std='std', interpolation='resize_interpolation')


@DATASETS.register_module()
class FeaturePairDataset(Dataset):
    """Pairs that per-image denoising has stored; no image is read unless raw features are to be computed.

    A sample has ``denoised`` and ``raw``, or ``image`` in place of the latter, and the ``name`` of the image.

    Args:
        data_root: Folder of all pairs.
        model_id: Folder of the model below it.
        ann_file: List of images, see :func:`~.files.read_list`; None takes the one that per-image denoising has left
            beside the features, else all stored pairs. Images without a pair are reported and left out.
        indices: Use only this many images, the first ones.
        image_root: Folder of the images. With it samples hold images, and raw features need not be stored.
        target: What the denoiser learns to give: ``denoised``, or ``raw`` for a control that learns to change nothing.
        image: How images are loaded, arguments of :func:`~.data.prepare_image`; those of the targets by default.
        made_with: How the targets are to have been made, such as ``dict(solver='field', profile='paper')``. Features
            that do not tell, such as released ones, are taken.

    Raises:
        UserError: If no pair is left, the list does not exist, the targets were made in another way, or images are
            loaded in another way than theirs, or nobody says how.
    """

    def __init__(
        self,
        data_root: str,
        model_id: str,
        ann_file: str | Path | None = None,
        indices: int | None = None,
        image_root: str | None = None,
        target: str = 'denoised',
        image: dict[str, Any] | None = None,
        made_with: dict[str, Any] | None = None,
    ):
        if target not in ('denoised', 'raw'):
            raise UserError(f"FeaturePairDataset: target is 'denoised' or 'raw', not {target!r}")
        self.image_root, self.target = image_root, target
        with_raw = image_root is None or target == 'raw'
        stored = FeaturePairs(data_root, model_id, (), with_raw=with_raw)
        if ann_file is None and stored.list_file.is_file():
            ann_file = stored.list_file
        names = None if ann_file is None else read_list(ann_file, stored.is_stored)[:indices]
        self.pairs = FeaturePairs(data_root, model_id, names, with_raw=with_raw)
        self.names = self.pairs.names[:indices] if names is None else self._those_stored()
        if not self.names:
            raise UserError(
                f'{data_root} holds no pair of {model_id}; write them with tools/denoise_images.py, '
                'or point --data-root at them'
            )
        self.shape = self._first_shape()
        self.metainfo = {META: self.pairs.read_meta()}
        if difference := first_difference(self.metainfo[META], made_with or {}):
            raise UserError(
                f'{self.pairs.meta_file}: the targets were made with {difference}; take the config of that solver, '
                'or point --data-root at other features'
            )
        self.image = None if image_root is None else self._image_settings(dict(image or {}))

    def _image_settings(self, given: dict[str, Any]) -> dict[str, Any]:
        """Return how images are loaded: as those of the targets, of which a config may state what no file tells."""
        if not Path(self.image_root).is_dir():
            raise UserError(f'image_root {self.image_root} does not exist; name the folder of the images')
        if unknown := given.keys() - IMAGE_META:
            raise UserError(f'image.{min(unknown)} is unknown: {", ".join(IMAGE_META)} tell how images are loaded')
        meta = self.metainfo[META]
        if difference := first_difference(meta, {IMAGE_META[key]: value for key, value in given.items()}):
            raise UserError(
                f'{self.pairs.meta_file}: the targets were made with {difference}; '
                'load images as per-image denoising did (train_dataloader.dataset.image)'
            )
        known = {key: meta[name] for key, name in IMAGE_META.items() if name in meta} | given
        if missing := [key for key in ('size', 'mean', 'std') if key not in known]:
            raise UserError(
                f'{self.pairs.meta_file} does not tell the {missing[0]} of the images; '
                f'state it (train_dataloader.dataset.image.{missing[0]})'
            )
        if known.get('interpolation', INTERPOLATIONS[0]) not in INTERPOLATIONS:
            raise UserError(f'image.interpolation={known["interpolation"]!r}: use {", ".join(INTERPOLATIONS)}')
        size = known['size']
        return known | dict(size=(size, size) if isinstance(size, int) else tuple(size))

    def _those_stored(self) -> list[str]:
        names = self.pairs.names
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
