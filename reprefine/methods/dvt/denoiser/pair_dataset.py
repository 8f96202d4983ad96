"""Dataset of pairs of raw and denoised features."""

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

from ..stage1.image_list import read_list
from ..stage1.storage import FeaturePairs, first_difference
from ..stage1.views import INTERPOLATIONS, prepare_image
from .checkpoint import META

# Arguments of prepare_image, and their keys in the metadata of stage 1.
IMAGE_META = dict(size='input_size', mean='mean', std='std', interpolation='resize_interpolation')


@DATASETS.register_module()
class FeaturePairDataset(Dataset):
    """Pairs stored by stage 1; images are read only if raw features are computed during training.

    A sample has ``denoised`` and ``raw``, or ``image`` instead of the latter, and the ``name`` of the image.

    Args:
        data_root: Folder of all pairs.
        model_id: Folder of the model below it.
        ann_file: List of images, see :func:`~..stage1.image_list.read_list`; None takes the list that stage 1 has
            stored with the features, or else all stored pairs. Images without a pair are reported and left out.
        indices: Number of images to use, the first ones.
        image_root: Folder of the images. With it samples hold images, and raw features need not be stored.
        target: Target of the denoiser: ``denoised``, or ``raw`` for a control that learns the identity.
        image: Arguments of :func:`~..stage1.views.prepare_image`; by default those of the targets.
        made_with: Required metadata of the targets, such as ``dict(solver='field', profile='paper')``. Features without
            this metadata, such as released ones, are accepted.

    Raises:
        UserError: If there is no pair, the list does not exist, the metadata of the targets differ from ``made_with``
            or ``image``, or the preparation of the images is unknown.
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
            raise UserError(f"FeaturePairDataset: target={target!r} is unknown; use 'denoised' or 'raw'")
        self.image_root, self.target = image_root, target
        with_raw = image_root is None or target == 'raw'
        stored = FeaturePairs(data_root, model_id, (), with_raw=with_raw)
        if ann_file is None and stored.list_file.is_file():
            ann_file = stored.list_file
        names = None if ann_file is None else read_list(ann_file, stored.is_stored)[:indices]
        self.pairs = FeaturePairs(data_root, model_id, names, with_raw=with_raw)
        self.names = self.pairs.names[:indices] if names is None else self._stored_names()
        if not self.names:
            raise UserError(
                f'{data_root} holds no pair of {model_id}; write them with tools/denoise_images.py, '
                'or set --data-root to their folder'
            )
        self.shape = self._first_shape()
        self.metainfo = {META: self.pairs.read_meta()}
        if difference := first_difference(self.metainfo[META], made_with or {}):
            raise UserError(
                f'{self.pairs.meta_file}: the targets were made with {difference}; take the config of that solver, '
                'or set --data-root to other features'
            )
        self.image = None if image_root is None else self._image_settings(dict(image or {}))

    def _image_settings(self, given: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments of ``prepare_image``: those of the targets, completed by those of the config."""
        if not Path(self.image_root).is_dir():
            raise UserError(f'image_root {self.image_root} does not exist; set it to the folder of the images')
        if unknown := given.keys() - IMAGE_META:
            raise UserError(f'image.{min(unknown)} is unknown; use {", ".join(IMAGE_META)}')
        meta = self.metainfo[META]
        if difference := first_difference(meta, {IMAGE_META[key]: value for key, value in given.items()}):
            raise UserError(
                f'{self.pairs.meta_file}: the targets were made with {difference}; '
                'use the same preparation (train_dataloader.dataset.image)'
            )
        known = {key: meta[name] for key, name in IMAGE_META.items() if name in meta} | given
        if missing := [key for key in ('size', 'mean', 'std') if key not in known]:
            raise UserError(
                f'{self.pairs.meta_file} has no {missing[0]} of the images; '
                f'set train_dataloader.dataset.image.{missing[0]}'
            )
        if known.get('interpolation', INTERPOLATIONS[0]) not in INTERPOLATIONS:
            raise UserError(f'image.interpolation={known["interpolation"]!r}: use {", ".join(INTERPOLATIONS)}')
        size = known['size']
        return known | dict(size=(size, size) if isinstance(size, int) else tuple(size))

    def _stored_names(self) -> list[str]:
        names = self.pairs.names
        stored = [name for name in names if self.pairs.is_stored(name)]
        if missing := sorted(set(names) - set(stored)):
            print_log(f'{len(missing)} of {len(names)} listed images have no pair, such as {missing[0]}', 'current', 30)
        return stored

    def _first_shape(self) -> tuple[int, ...]:
        """Return the shape of the first valid target; raises if there is none."""
        for name in self.names[:-1]:
            with suppress(UnreadableSample):
                return self.pairs.denoised(name).shape
        return self.pairs.denoised(self.names[-1]).shape

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.names)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return the sample of :meth:`prepare_data`; the Runner replaces samples that cannot be read."""
        return self.prepare_data(index)

    def prepare_data(self, index: int) -> dict[str, Any]:
        """Read one sample, features as (C, h, w) in float32.

        Raises:
            UnreadableSample: If a file is missing or corrupted.
            UserError: If the shape is not that of the first sample.
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
