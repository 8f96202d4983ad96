"""MATLAB files whose bytes depend on their content alone: version 5, and version 7.3 with cell arrays."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io


def save_mat5(path: Path, variables: dict[str, np.ndarray]) -> None:
    """Write a version 5 file; object arrays become cell arrays."""
    content = io.BytesIO()
    scipy.io.savemat(content, variables)
    content.getbuffer()[:116] = b'MATLAB 5.0 MAT-file'.ljust(116)  # scipy puts the time of writing here
    path.write_bytes(content.getvalue())


class Mat73Writer:
    """Writes a version 7.3 file: HDF5 behind MATLAB's header, arrays transposed, cells of object references.

    Args:
        path: The file to write.
    """

    def __init__(self, path: Path) -> None:
        import h5py

        self._path = path
        self._reference = h5py.ref_dtype
        self._file = h5py.File(path, 'w', userblock_size=512)

    def __enter__(self) -> 'Mat73Writer':
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()
        with self._path.open('r+b') as file:
            file.write(b'MATLAB 7.3 MAT-file'.ljust(116) + bytes(8) + b'\x00\x02IM')

    def add_cell(self, references: list[list], name: str | None = None) -> Any:
        """Store a cell array.

        Args:
            references: Rows of references to what the cells hold.
            name: Name of the variable, None for a cell array inside another.

        Returns:
            A reference to the cell array.
        """
        return self._add(np.array(references, dtype=self._reference), 'cell', name).ref

    def add_array(self, array: np.ndarray | None) -> Any:
        """Store a uint8 or float64 array, or the empty matrix for None, and return a reference to it."""
        if array is None:
            empty = self._add(np.zeros(2, np.uint64), 'double')  # the dimensions, 0 x 0
            empty.attrs['MATLAB_empty'] = np.uint8(1)
            return empty.ref
        return self._add(array, 'uint8' if array.dtype == np.uint8 else 'double').ref

    def _add(self, values: np.ndarray, matlab_class: str, name: str | None = None) -> Any:
        name = name or f'#refs#/{len(self._file.require_group("#refs#")):x}'
        dataset = self._file.create_dataset(name, data=values.T)
        dataset.attrs['MATLAB_class'] = np.bytes_(matlab_class)
        return dataset
