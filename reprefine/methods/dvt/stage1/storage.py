"""Storage of raw and denoised features: what stage 1 writes and stage 2 trains on."""

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from reprefine.engine.data_checks.unreadable import UnreadableSample
from reprefine.engine.errors import UserError
from reprefine.engine.files import atomic_write

RAW, DENOISED, COMPONENTS = 'raw_features', 'denoised_features', 'components'


def model_folder(model_id: str, stride: int, patch_size: int) -> str:
    """Return the folder name of a model: its id, with the stride of the patches where it is not their size."""
    return model_id if stride == patch_size else f'{model_id}_s{stride}'


class FeaturePairs:
    """Pairs of raw and denoised features of one model, ``<save_root>/{raw,denoised}_features/<model_id>/<name>.npy``.

    A name is the path of an image relative to its data root, such as ``VOC2012/JPEGImages/2007_000032.jpg``.

    Args:
        save_root: Folder of all pairs.
        model_id: Folder of the model, see :func:`model_folder`.
        names: The images; by default all whose pair is stored, sorted.
        dtype: Type of the numbers on disk, ``'float32'`` or ``'float16'``.
        with_raw: Whether raw features are stored too; without them stage 2 computes them from the image.
        with_components: Whether an image is complete only with its components, ``components/<model_id>/<name>.npz``.

    Raises:
        UserError: If the type is another, a name occurs twice, or a name is not a path below the data root.
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
            raise UserError(f'dtype {dtype!r} of stored features is unknown; use float32 or float16')
        self.root = Path(save_root)
        self.model_id = model_id
        self.dtype = np.dtype(dtype)
        self.kinds = (RAW, DENOISED) if with_raw else (DENOISED,)
        self.with_components = with_components
        self.names = self._stored_names() if names is None else [_relative_path(name) for name in names]
        if len(set(self.names)) < len(self.names):
            repeated = next(name for name in self.names if self.names.count(name) > 1)
            raise UserError(f'{repeated} is listed twice; list every image once')

    def _stored_names(self) -> list[str]:
        folder = self.root / DENOISED / self.model_id
        files = (file.relative_to(folder) for file in folder.rglob('*.npy') if not file.name.startswith('.'))
        return [name for name in sorted(file.as_posix()[:-4] for file in files) if self.is_stored(name)]

    def path(self, kind: str, name: str) -> Path:
        """Return a file of an image; ``kind`` is :data:`RAW`, :data:`DENOISED` or :data:`COMPONENTS`."""
        return self.root / kind / self.model_id / f'{name}.{"npz" if kind == COMPONENTS else "npy"}'

    def raw(self, name: str) -> np.ndarray:
        """Return the features of the backbone for the whole image, (rows, columns, channels) in float32.

        Raises:
            UnreadableSample: If the file is missing or corrupted.
        """
        return self._read(RAW, name)

    def denoised(self, name: str) -> np.ndarray:
        """Return the denoised features; shape and exceptions as for :meth:`raw`."""
        return self._read(DENOISED, name)

    def _read(self, kind: str, name: str) -> np.ndarray:
        return np.asarray(_open_array(self.path(kind, name)), dtype=np.float32)

    def write(self, name: str, raw: np.ndarray, denoised: np.ndarray) -> None:
        """Store a pair of (rows, columns, channels); each file is written atomically.

        Raises:
            UserError: If a number is not finite, or too large for the stored type.
        """
        arrays = {RAW: raw, DENOISED: denoised}
        ready = {kind: self._cast(name, kind, arrays[kind]) for kind in self.kinds}
        for kind, array in ready.items():
            with atomic_write(self.path(kind, _relative_path(name))) as partial, open(partial, 'wb') as file:
                np.save(file, array, allow_pickle=False)

    def write_components(self, name: str, components: Mapping[str, np.ndarray]) -> None:
        """Store ``G``, and ``Delta`` where it was fitted, in one file; raises as :meth:`write` does."""
        ready = {key: self._cast(name, COMPONENTS, array) for key, array in components.items()}
        with atomic_write(self.path(COMPONENTS, _relative_path(name))) as partial:
            np.savez(partial, **ready)

    def _cast(self, name: str, kind: str, array: np.ndarray) -> np.ndarray:
        with np.errstate(over='ignore'):
            array = np.asarray(array).astype(self.dtype)
        if not np.isfinite(array).all():
            raise UserError(
                f'{name}: {kind} are not finite in {self.dtype} and are not stored; '
                'check the weights of the backbone, or store float32'
            )
        return array

    def is_stored(self, name: str) -> bool:
        """Tell whether every file of the pair exists, valid or not."""
        return all(self.path(kind, name).is_file() for kind in self.kinds)

    def is_complete(self, name: str) -> bool:
        """Tell whether all files of an image exist and are valid."""
        return self.has_pair(name) and (self.has_components(name) or not self.with_components)

    def has_pair(self, name: str) -> bool:
        """Tell whether every array of the pair is valid and all have the same grid."""
        try:
            grids = {_open_array(self.path(kind, name)).shape[:2] for kind in self.kinds}
        except UserError:
            return False
        return len(grids) == 1

    def has_components(self, name: str) -> bool:
        """Tell whether the file of the components exists and is valid."""
        try:
            with zipfile.ZipFile(self.path(COMPONENTS, name)) as stored:
                return 'G.npy' in stored.namelist()
        except (OSError, zipfile.BadZipFile):
            return False

    @property
    def meta_file(self) -> Path:
        """The JSON file with the metadata of the features."""
        return self.root / f'{self.model_id}.json'

    @property
    def list_file(self) -> Path:
        """The list of the images that were to be denoised, in order."""
        return self.root / f'{self.model_id}.txt'

    def write_list(self, names: Sequence[str]) -> None:
        """Append images to the list, without those that it already has.

        Args:
            names: All images of the run, in order, also those of other shards.
        """
        known = self.list_file.read_text().splitlines() if self.list_file.is_file() else []
        with atomic_write(self.list_file) as partial:
            Path(partial).write_text(''.join(f'{name}\n' for name in dict.fromkeys([*known, *names])))

    def read_meta(self) -> dict[str, Any]:
        """Return the metadata of the features, see :meth:`.Stage1.metadata`; empty if there is no file.

        Raises:
            UserError: If the file is not JSON.
        """
        try:
            return json.loads(self.meta_file.read_text())
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise UserError(
                f'{self.meta_file} is not valid JSON: {error}; restore it, or delete the features and denoise again'
            ) from error

    def write_meta(self, meta: dict[str, Any]) -> None:
        """Write the metadata of the features.

        Raises:
            UserError: If the features that are already stored have other metadata.
        """
        meta = json.loads(json.dumps(meta))
        compared = {key: value for key, value in meta.items() if key != 'version'}
        if difference := first_difference(self.read_meta(), compared):
            raise UserError(
                f'{self.root} holds features of {self.model_id} made with {difference}; write to another folder'
            )
        with atomic_write(self.meta_file) as partial:
            Path(partial).write_text(json.dumps(meta, indent=2) + '\n')


def first_difference(known: Mapping[str, Any], wanted: Mapping[str, Any]) -> str | None:
    """Return the first entry of ``wanted`` that has another value in ``known``, as ``key=known, not wanted``.

    Entries that ``known`` lacks are ignored. A list equals a tuple, and one number as ``input_size`` equals two.

    Args:
        known: Metadata of features, as read from a file.
        wanted: Metadata that they should have.
    """
    for key, value in wanted.items():
        if key in known and _normalized(known[key], key) != _normalized(value, key):
            return f'{key}={known[key]}, not {value}'
    return None


def _normalized(value: Any, key: str) -> Any:
    value = json.loads(json.dumps(value))
    return [value, value] if key == 'input_size' and isinstance(value, int) else value


def _relative_path(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or '..' in path.parts or not path.name:
        raise UserError(f"'{name}' is not a path below the data root; list images relative to it")
    return path.as_posix()


def _open_array(file: Path) -> np.ndarray:
    """Memory-map an array of three axes; a leading axis of length 1, as in released features, is dropped."""
    try:
        array = np.load(file, mmap_mode='r', allow_pickle=False)
    except FileNotFoundError as error:
        message = f'{file} does not exist; run tools/denoise_images.py first'
        raise UnreadableSample(message, str(file)) from error
    except (ValueError, EOFError, OSError) as error:
        message = f'{file} is not a valid array: {error}; delete it and run tools/denoise_images.py again'
        raise UnreadableSample(message, str(file)) from error
    if array.ndim == 4 and array.shape[0] == 1:
        array = array[0]
    if array.ndim != 3:
        raise UserError(
            f'{file} has shape {array.shape}, expected (rows, columns, channels); '
            'delete it and run tools/denoise_images.py again'
        )
    return array
