"""CIFAR-10 from local files: downloaded only on request, and read by an unpickler that executes no code."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
from mmpretrain.datasets import CIFAR10 as HostCIFAR10

from reprefine.engine.errors import UserError
from reprefine.registry import DATASETS


def _latin1(text: str, encoding: str) -> bytes:
    """Replace ``codecs.encode``, which a pickle of Python 3 calls to build bytes under protocol 2."""
    if encoding != 'latin1':
        raise pickle.UnpicklingError(f'it holds text in {encoding}')
    return text.encode('latin1')


# The names that a CIFAR-10 file refers to; numpy 2 moved ``_reconstruct``.
ALLOWED = {
    ('_codecs', 'encode'): _latin1,
    ('numpy.core.multiarray', '_reconstruct'): np.zeros(0).__reduce__()[0],
    ('numpy._core.multiarray', '_reconstruct'): np.zeros(0).__reduce__()[0],
    ('numpy', 'ndarray'): np.ndarray,
    ('numpy', 'dtype'): np.dtype,
}


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickles containers, numbers, strings and arrays, and raises ``UnpicklingError`` for everything else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in ALLOWED:
            return ALLOWED[module, name]
        raise pickle.UnpicklingError(f'it refers to {module}.{name}')


def read_batch(file: Path) -> dict:
    """Read one file of CIFAR-10.

    Raises:
        UserError: The file is corrupted or not a batch file of CIFAR-10.
    """
    try:
        with file.open('rb') as stream:
            return _ArrayUnpickler(stream, encoding='latin1').load()
    except (pickle.UnpicklingError, EOFError, ValueError, IndexError, UnicodeDecodeError) as error:
        raise UserError(f'{file} is corrupted or not a batch file of CIFAR-10 ({error}): download it again') from error


@DATASETS.register_module()
class CIFAR10(HostCIFAR10):
    """mmpretrain's CIFAR-10 that also reads files other than the published ones, such as toy data.

    Args:
        data_root: Folder that holds ``cifar-10-batches-py``.
        split: ``train`` or ``test``.
        download: Fetch the published files if they are missing.
        **kwargs: Other arguments of mmpretrain's ``CIFAR10``.

    Raises:
        UserError: A file is missing and ``download`` is False, or a file is corrupted.
    """

    def __init__(self, data_root: str, split: str, download: bool = False, **kwargs: Any):
        super().__init__(data_root=data_root, split=split, download=download, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Return every image, uint8 (32, 32, 3) in RGB order, with its label."""
        folder = Path(self.data_prefix['root']) / self.base_folder
        names = [name for name, _ in (self.train_list if self.split == 'train' else self.test_list)]
        missing = [name for name in names if not (folder / name).is_file()]
        if missing and self.download:
            return super().load_data_list()
        if missing:
            raise UserError(f'{folder} lacks {", ".join(missing)}; unpack the python version of CIFAR-10 there')
        samples = []
        for batch in (read_batch(folder / name) for name in names):
            images = np.asarray(batch['data']).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
            samples += [
                {'img': image, 'gt_label': int(label)} for image, label in zip(images, batch['labels'], strict=True)
            ]
        return samples
