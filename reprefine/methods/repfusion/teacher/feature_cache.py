"""A cache of the teacher's features on disk, for a fixed timestep and images without random augmentation."""

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
    """Features in memory-mapped files, with a hash of their input as the key.

    A key is written after its features, so that a killed run leaves no key of incomplete features.

    Args:
        folder: Folder of the files; created if missing.
        shapes: Shape of a feature of each layer.
        capacity: Maximum number of entries.

    Raises:
        UserError: If the folder holds a store of another shape or capacity, or a corrupted one.
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
        """Return the number of entries."""
        return len(self._rows)

    def missing(self, keys: list[bytes]) -> list[int]:
        """Return the indices in ``keys`` of those without an entry."""
        return [i for i, key in enumerate(keys) if key not in self._rows]

    def add(self, keys: list[bytes], feats: list[Tensor]) -> None:
        """Store the features ``[N, C, H, W]`` of each layer for ``N`` keys."""
        for i, key in enumerate(keys):
            if key in self._rows:
                continue  # the same image twice in a batch
            row = len(self._rows)
            for layer, feat in zip(self._layers, feats, strict=True):
                layer[row] = feat[i].cpu().numpy()
            self._keys[row] = np.frombuffer(key, np.uint8)
            self._rows[key] = row

    def read(self, keys: list[bytes]) -> list[Tensor]:
        """Return the features ``[N, C, H, W]`` of each layer for ``N`` keys that have an entry."""
        rows = [self._rows[key] for key in keys]
        return [torch.from_numpy(layer[rows]) for layer in self._layers]


def _open(path: Path, shape: tuple[int, ...], dtype: type) -> np.memmap:
    if not path.is_file():
        return np.lib.format.open_memmap(path, mode='w+', dtype=dtype, shape=shape)
    try:
        array = np.lib.format.open_memmap(path, mode='r+')
    except (OSError, ValueError) as error:
        raise UserError(f'{path} is corrupted ({type(error).__name__}): delete its folder') from error
    if array.shape != shape or array.dtype != dtype:
        raise UserError(f'{path} has the shape {array.shape}, not {shape}: delete its folder, or restore the capacity')
    return array


@MODELS.register_module()
class CachedDiffusionTeacher(DiffusionTeacher):
    """A teacher that computes the features of an image at a timestep once, and reads them from disk afterwards.

    The entries are in a folder below ``cache_dir`` that is named after the teacher's fingerprint; their keys are hashes
    of image, timestep and class. With random augmentation no image would occur twice, so a miss in a full store is an
    error.

    The cache saves time from the second epoch on; the first epoch is slightly slower than without.

    Args:
        *args: Arguments of :class:`DiffusionTeacher`.
        cache_dir: Folder of all stores.
        capacity: Number of images; twice as many with random flips.
        pooled: Store spatial means ``[C, 1, 1]``, which are all that the Hint and RKD losses use.
        **kwargs: Arguments of :class:`DiffusionTeacher`.

    Raises:
        UserError: If noise is added, which differs in every step, or several processes would share the store.
    """

    def __init__(self, *args: Any, cache_dir: str, capacity: int, pooled: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.noise_mode != 'none':
            raise UserError(
                f"a feature cache needs noise_mode='none', not '{self.noise_mode}': noise differs in every step"
            )
        self.cache_dir, self.capacity, self.pooled = Path(cache_dir), capacity, pooled
        self._store: FeatureStore | None = None

    @torch.no_grad()
    def forward(self, images: Tensor, timesteps: Tensor, labels: Tensor | None = None) -> list[Tensor]:
        """Return the features as :meth:`DiffusionTeacher.forward` does; pooled ones have the shape ``[N, C, 1, 1]``.

        Raises:
            UserError: If a full store has no entry for an image, or labels are missing or not in ``label_map``.
        """
        if self.is_class_conditional:
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
                raise UserError(
                    f'a feature cache supports one process, not {get_world_size()}: train with one, or use '
                    'reprefine.DiffusionTeacher'
                )
            shapes = [tuple(feat.shape[1:]) for feat in feats]
            name = self.fingerprint() + '_pooled' * self.pooled
            self._store = FeatureStore(self.cache_dir / name, shapes, self.capacity)
        if len(self._store) + len(set(self._store.missing(keys))) > self.capacity:
            raise UserError(
                f'the feature cache is full ({self.capacity} entries), but there are new images or timesteps: remove '
                'random augmentation, fix the timestep, increase capacity, or use reprefine.DiffusionTeacher'
            )
        self._store.add(keys, feats)

    def _hash(self, images: Tensor, timesteps: Tensor, labels: Tensor | None) -> list[bytes]:
        pixels = images.detach().cpu().contiguous().numpy()
        extra = torch.stack([timesteps, torch.zeros_like(timesteps) if labels is None else labels], dim=1).cpu().numpy()
        if not self.is_class_conditional:
            extra[:, 1] = 0  # the features do not depend on it
        return [
            hashlib.blake2b(pixel.data, digest_size=_KEY_BYTES, key=row.tobytes()).digest()
            for pixel, row in zip(pixels, extra, strict=True)
        ]
