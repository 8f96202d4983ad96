"""A cache of the teacher's features on disk, for fixed timesteps and images that do not change."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_world_size
from torch import Tensor

from reprefine.engine.errors import UserError
from reprefine.registry import MODELS

from ..labels import check_labels
from .diffusion_teacher import DiffusionTeacher

_KEY_BYTES = 16


class FeatureStore:
    """Features in memory-mapped files, found by a hash of what they were computed from.

    A key is written after its features, so that a run that is killed leaves nothing half written to be found.

    Args:
        folder: Where the files are; made when needed.
        shapes: Shape of a feature of each layer.
        capacity: Largest number of entries.

    Raises:
        UserError: If the folder holds a store of another shape or capacity.
    """

    def __init__(self, folder: Path, shapes: list[tuple[int, ...]], capacity: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.capacity = capacity
        self._layers = [
            _open(folder / f'layer{i}.npy', (capacity, *shape), np.float32) for i, shape in enumerate(shapes)
        ]
        self._keys = _open(folder / 'keys.npy', (capacity, _KEY_BYTES), np.uint8)
        used = int(self._keys.any(axis=1).sum())
        self._rows = {self._keys[row].tobytes(): row for row in range(used)}

    def __len__(self) -> int:
        return len(self._rows)

    def missing(self, keys: list[bytes]) -> list[int]:
        """Return the places in ``keys`` that have no entry."""
        return [i for i, key in enumerate(keys) if key not in self._rows]

    def add(self, keys: list[bytes], feats: list[Tensor]) -> None:
        """Store one feature a layer for every key, ``[N, C, H, W]`` each."""
        for i, key in enumerate(keys):
            if key in self._rows:
                continue  # the same image twice in a batch
            row = len(self._rows)
            for layer, feat in zip(self._layers, feats, strict=True):
                layer[row] = feat[i].cpu().numpy()
            self._keys[row] = np.frombuffer(key, np.uint8)
            self._rows[key] = row

    def read(self, keys: list[bytes]) -> list[Tensor]:
        """Return the features of all layers for keys that have an entry."""
        rows = [self._rows[key] for key in keys]
        return [torch.from_numpy(layer[rows]) for layer in self._layers]


def _open(path: Path, shape: tuple[int, ...], dtype: type) -> np.memmap:
    if not path.is_file():
        return np.lib.format.open_memmap(path, mode='w+', dtype=dtype, shape=shape)
    try:
        array = np.lib.format.open_memmap(path, mode='r+')
    except (OSError, ValueError) as error:
        raise UserError(f'{path} is damaged ({type(error).__name__}): delete its folder') from error
    if array.shape != shape or array.dtype != dtype:
        raise UserError(f'{path} holds {array.shape}, not {shape}: delete its folder, or give the former capacity')
    return array


@MODELS.register_module()
class CachedDiffusionTeacher(DiffusionTeacher):
    """A teacher that computes the features of an image at a timestep once, and reads them from disk afterwards.

    Entries lie below ``cache_dir`` in a folder named after the hash of the teacher, and are found by a hash of image,
    timestep and class: whatever changes is computed anew. With images that random augmentation makes new every time
    nothing would ever be found again, so a full store that lacks an image is an error.

    It pays off from the second epoch on; the first one costs little more than without.

    Args:
        *args: Arguments of :class:`DiffusionTeacher`.
        cache_dir: Folder of all stores.
        capacity: Number of images; twice as many with random flips.
        pooled: Store spatial means ``[C, 1, 1]``, which is all that the Hint and RKD losses look at.
        **kwargs: Arguments of :class:`DiffusionTeacher`.

    Raises:
        UserError: If noise is added, which is new every time, or several processes would share the store.
    """

    def __init__(self, *args: Any, cache_dir: str, capacity: int, pooled: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.noise_mode != 'none':
            raise UserError("a feature cache needs noise_mode='none': noise is new every time")
        self.cache_dir, self.capacity, self.pooled = Path(cache_dir), capacity, pooled
        self._store: FeatureStore | None = None

    @torch.no_grad()
    def forward(self, images: Tensor, timesteps: Tensor, labels: Tensor | None = None) -> list[Tensor]:
        """Return the features as the plain teacher does, pooled ones as ``[N, C, 1, 1]``.

        Raises:
            UserError: If the store is full and an image is not in it, or the labels are missing or unknown.
        """
        if self.label_conditioned:
            check_labels(labels, len(self.label_map), 'label_map')
        keys = self._hash(images, timesteps, labels)
        missing = list(range(len(keys))) if self._store is None else self._store.missing(keys)
        if missing:
            chosen = torch.tensor(missing, device=images.device)
            new = super().forward(images[chosen], timesteps[chosen], None if labels is None else labels[chosen])
            new = [feat.mean(dim=(2, 3), keepdim=True) for feat in new] if self.pooled else new
            self._add([keys[i] for i in missing], new)
        return [feat.to(images.device, non_blocking=True) for feat in self._store.read(keys)]

    def _add(self, keys: list[bytes], feats: list[Tensor]) -> None:
        if self._store is None:
            if get_world_size() > 1:
                raise UserError('a feature cache serves one process: train on one, or use reprefine.DiffusionTeacher')
            shapes = [tuple(feat.shape[1:]) for feat in feats]
            name = self.fingerprint() + '_pooled' * self.pooled
            self._store = FeatureStore(self.cache_dir / name, shapes, self.capacity)
        if len(self._store) + len(set(self._store.missing(keys))) > self.capacity:
            raise UserError(
                f'the feature cache is full ({self.capacity} entries) and still meets new images or timesteps: remove '
                'random augmentation, fix the timestep, raise capacity, or use reprefine.DiffusionTeacher'
            )
        self._store.add(keys, feats)

    def _hash(self, images: Tensor, timesteps: Tensor, labels: Tensor | None) -> list[bytes]:
        pixels = images.detach().cpu().contiguous().numpy()
        extra = torch.stack([timesteps, torch.zeros_like(timesteps) if labels is None else labels], dim=1).cpu().numpy()
        if not self.label_conditioned:
            extra[:, 1] = 0  # of no effect
        return [
            hashlib.blake2b(pixel.data, digest_size=_KEY_BYTES, key=row.tobytes()).digest()
            for pixel, row in zip(pixels, extra, strict=True)
        ]
