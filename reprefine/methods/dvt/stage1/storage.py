"""Pairs of raw and denoised features on disk: what per-image denoising writes and the denoiser learns from."""

import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from reprefine.engine.data_checks.unreadable import UnreadableSample
from reprefine.engine.errors import UserError
from reprefine.engine.files import atomic_write, read_text

RAW, DENOISED, COMPONENTS = 'raw_features', 'denoised_features', 'components'
PUBLISHED_PREFIX = 'data/VOCdevkit/'


def model_folder(model_id: str, stride: int, patch_size: int) -> str:
    """Return the name of a model's folder: its id, and the stride of the patches where it is not their size."""
    return model_id if stride == patch_size else f'{model_id}_s{stride}'


def read_list(file: str | Path, is_there: Callable[[str], bool]) -> list[str]:
    """Return the names of a list of images, as stage 1 and stage 2 take them.

    Args:
        file: One name a line. Lines without text, and those that begin with ``#``, are none.
        is_there: Tells whether something goes by a name. Where nothing does, the prefix ``data/VOCdevkit/`` of the
            published list is removed.

    Raises:
        UserError: If the file cannot be read, or names nothing.
    """
    try:
        lines = (line.strip() for line in read_text(file).splitlines())
    except OSError as error:
        raise UserError(
            f'list {file} cannot be read ({error.strerror}); tools/dataset_tools/voc_image_list.py writes one'
        ) from error
    names = [line for line in lines if line and not line.startswith('#')]
    if not names:
        raise UserError(f'list {file} names no image; write one name a line, relative to the data root')
    return [name if is_there(name) else name.removeprefix(PUBLISHED_PREFIX) for name in names]


class FeaturePairs:
    """The pairs of one model, ``<save_root>/{raw,denoised}_features/<model_id>/<name>.npy``.

    A name is the path of an image relative to its data root, such as ``VOC2012/JPEGImages/2007_000032.jpg``.

    Args:
        save_root: Folder of all pairs.
        model_id: Folder of the model, see :func:`model_folder`.
        names: The images; by default all whose pair is there, sorted.
        dtype: Numbers to write, ``'float32'`` or ``'float16'``.
        with_raw: Whether raw features are stored too; without them a reader computes them from the image.
        with_components: Whether an image is complete only with its components, ``components/<model_id>/<name>.npz``.

    Raises:
        UserError: If two images have the same name, or a name leads out of the folder.
    """

    def __init__(
        self,
        save_root: str | Path,
        model_id: str,
        names: Sequence[str] | None = None,
        dtype: str = 'float32',
        with_raw: bool = True,
        with_components: bool = False,
    ):
        if dtype not in ('float32', 'float16'):
            raise UserError(f'features are stored as float32 or float16, not as {dtype}')
        self.root = Path(save_root)
        self.model_id = model_id
        self.dtype = np.dtype(dtype)
        self.kinds = (RAW, DENOISED) if with_raw else (DENOISED,)
        self.with_components = with_components
        self.names = self._stored() if names is None else [_checked(name) for name in names]
        if len(set(self.names)) < len(self.names):
            double = next(name for name in self.names if self.names.count(name) > 1)
            raise UserError(f'{double} is listed twice; list every image once')

    def _stored(self) -> list[str]:
        folder = self.root / DENOISED / self.model_id
        files = (file.relative_to(folder) for file in folder.rglob('*.npy') if not file.name.startswith('.'))
        return [name for name in sorted(file.as_posix()[:-4] for file in files) if self.is_stored(name)]

    def path(self, kind: str, name: str) -> Path:
        """Return a file of an image; ``kind`` is :data:`RAW`, :data:`DENOISED` or :data:`COMPONENTS`."""
        return self.root / kind / self.model_id / f'{name}.{"npz" if kind == COMPONENTS else "npy"}'

    def raw(self, name: str) -> np.ndarray:
        """Return what the network gave for the whole image, (rows, columns, channels) in float32.

        Raises:
            UnreadableSample: If the file is missing or damaged.
        """
        return self._read(RAW, name)

    def denoised(self, name: str) -> np.ndarray:
        """Return the denoised features, shaped and refused as those of :meth:`raw`."""
        return self._read(DENOISED, name)

    def _read(self, kind: str, name: str) -> np.ndarray:
        return np.asarray(_open(self.path(kind, name)), dtype=np.float32)

    def write(self, name: str, raw: np.ndarray, denoised: np.ndarray) -> None:
        """Store a pair of (rows, columns, channels); either array appears whole or not at all.

        Raises:
            UserError: If a number is not finite, or too large for the stored type.
        """
        arrays = {RAW: raw, DENOISED: denoised}
        ready = {kind: self._finite(name, kind, arrays[kind]) for kind in self.kinds}
        for kind, array in ready.items():
            with atomic_write(self.path(kind, _checked(name))) as partial, open(partial, 'wb') as file:
                np.save(file, array, allow_pickle=False)

    def write_components(self, name: str, components: Mapping[str, np.ndarray]) -> None:
        """Store ``G``, and ``Delta`` where it was fitted, in one file; refused as by :meth:`write`."""
        ready = {key: self._finite(name, COMPONENTS, array) for key, array in components.items()}
        with atomic_write(self.path(COMPONENTS, _checked(name))) as partial:
            np.savez(partial, **ready)

    def _finite(self, name: str, kind: str, array: np.ndarray) -> np.ndarray:
        with np.errstate(over='ignore'):
            array = np.asarray(array).astype(self.dtype)
        if not np.isfinite(array).all():
            raise UserError(f'{name}: {kind} hold numbers that are not finite in {self.dtype}; nothing is stored')
        return array

    def is_stored(self, name: str) -> bool:
        """Tell whether every array of the pair is there, whole or not."""
        return all(self.path(kind, name).is_file() for kind in self.kinds)

    def is_complete(self, name: str) -> bool:
        """Tell whether all that is asked for is there and whole."""
        return self.has_pair(name) and (self.has_components(name) or not self.with_components)

    def has_pair(self, name: str) -> bool:
        """Tell whether every array of the pair is there, whole and of one grid."""
        try:
            grids = {_open(self.path(kind, name)).shape[:2] for kind in self.kinds}
        except UserError:
            return False
        return len(grids) == 1

    def has_components(self, name: str) -> bool:
        """Tell whether the components are there and whole."""
        try:
            with zipfile.ZipFile(self.path(COMPONENTS, name)) as stored:
                return 'G.npy' in stored.namelist()
        except (OSError, zipfile.BadZipFile):
            return False

    @property
    def meta_file(self) -> Path:
        """The JSON beside the folders that tells how the features were made."""
        return self.root / f'{self.model_id}.json'

    @property
    def list_file(self) -> Path:
        """The list beside the folders of the images that were to be denoised, in its order."""
        return self.root / f'{self.model_id}.txt'

    def write_list(self, names: Sequence[str]) -> None:
        """Add images to the list, behind those that it has already.

        Args:
            names: All images of the run, in order, also those of other shards.
        """
        known = self.list_file.read_text().splitlines() if self.list_file.is_file() else []
        with atomic_write(self.list_file) as partial:
            Path(partial).write_text(''.join(f'{name}\n' for name in dict.fromkeys([*known, *names])))

    def read_meta(self) -> dict[str, Any]:
        """Return how the features were made; empty if nobody wrote it.

        Raises:
            UserError: If the file is damaged.
        """
        try:
            return json.loads(self.meta_file.read_text())
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise UserError(f'{self.meta_file} cannot be read: {error}; delete the features or mend it') from error

    def write_meta(self, meta: dict[str, Any]) -> None:
        """Record how the features are made.

        Raises:
            UserError: If those already there were made in another way.
        """
        meta = json.loads(json.dumps(meta))
        known = self.read_meta()
        made = {key: value for key, value in meta.items() if key != 'version'}
        if difference := first_difference(known, made):
            raise UserError(
                f'{self.root} holds features of {self.model_id} made with {difference}; write to another folder'
            )
        with atomic_write(self.meta_file) as partial:
            Path(partial).write_text(json.dumps(meta, indent=2) + '\n')


def first_difference(known: Mapping[str, Any], wanted: Mapping[str, Any]) -> str | None:
    """Return the first entry of ``wanted`` that ``known`` has with another value, as ``key=known, not wanted``.

    Entries that ``known`` lacks do not count, nor does whether a list is a tuple, or a side stands for both sides.

    Args:
        known: How features were made, as read from a file.
        wanted: How they are to be.
    """
    for key, value in wanted.items():
        if key in known and _plain(known[key], key) != _plain(value, key):
            return f'{key}={known[key]}, not {value}'
    return None


def _plain(value: Any, key: str) -> Any:
    value = json.loads(json.dumps(value))
    return [value, value] if key == 'input_size' and isinstance(value, int) else value


def _checked(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or '..' in path.parts or not path.name:
        raise UserError(f"'{name}' is no path below the data root; list images relative to it")
    return path.as_posix()


def _open(file: Path) -> np.ndarray:
    """Map an array of three axes; a leading axis of length 1, as in released features, is dropped."""
    try:
        array = np.load(file, mmap_mode='r', allow_pickle=False)
    except FileNotFoundError as error:
        message = f'{file} does not exist; run tools/denoise_images.py first'
        raise UnreadableSample(message, str(file)) from error
    except (ValueError, EOFError, OSError) as error:
        message = f'{file} is no whole array: {error}; delete it and denoise the image again'
        raise UnreadableSample(message, str(file)) from error
    if array.ndim == 4 and array.shape[0] == 1:
        array = array[0]
    if array.ndim != 3:
        raise UserError(f'{file} has shape {array.shape}; expected rows, columns, channels')
    return array
