"""Base classes of the ReID datasets."""

from collections.abc import Sequence
from typing import Any

from mmengine.dataset import BaseDataset
from mmengine.logging import print_log

from reprefine.engine.errors import UserError

from .parsing import Photo

ROLES = {'train': ('train',), 'test': ('query', 'gallery')}


class IdentityDataset(BaseDataset):
    """Base of datasets that assign labels to identities themselves.

    Attributes:
        num_labels: Number of training identities; 0 in the test split.
    """

    NUMBERS_ITS_LABELS = True  # equal labels of two datasets are different identities
    num_labels = 0

    def get_cat_ids(self, idx: int) -> list[int]:
        """Return the label of a sample, which class-balancing wrappers such as ``ClassBalancedDataset`` call."""
        return [self.get_data_info(idx)['gt_label']]


class ReIDDataset(IdentityDataset):
    """Base of the released datasets: images with an identity, a camera and a role.

    A sample has ``img_path``, ``pid`` (identity in the release), ``camera`` (from 0), ``role`` (``train``,
    ``query`` or ``gallery``) and ``gt_label``: the identity counted from 0 without gaps for training, -1 for testing,
    whose identities are not training classes. Junk boxes (identity -1) are excluded from every split.

    Args:
        data_root: Folder of the release.
        split: ``train``, or ``test`` for queries and gallery.
        **kwargs: Arguments of mmengine's ``BaseDataset``, such as ``pipeline``.

    Raises:
        UserError: The split is unknown, or files are missing.
    """

    def __init__(self, data_root: str, split: str = 'train', **kwargs: Any):
        if split not in ROLES:
            raise UserError(f'{type(self).__name__}: unknown split {split!r}; choose from {", ".join(ROLES)}')
        self.split = split
        super().__init__(data_root=data_root, test_mode=split == 'test', **kwargs)

    def find_photos(self, role: str) -> list[Photo]:
        """Return the images of a role, junk boxes included.

        Raises:
            UserError: Files are missing.
        """
        raise NotImplementedError

    def load_data_list(self) -> list[dict]:
        """Return the samples of the split.

        Raises:
            UserError: Files are missing; the message lists those of all roles.
        """
        samples, errors = [], []
        for role in ROLES[self.split]:
            try:
                photos = self.find_photos(role)
            except UserError as error:
                errors.append(str(error))
                continue
            samples += [_sample(photo, role) for photo in photos if photo.pid >= 0]
        name = type(self).__name__
        if errors:
            raise UserError(f'{name}: {"; ".join(errors)}; add the missing files, or give --data-root')
        if self.split == 'train':
            self.num_labels = _number_labels(samples)
        print_log(f'{name}: {summarize(samples)}', 'current')
        return samples


def _sample(photo: Photo, role: str) -> dict:
    return dict(img_path=photo.path, gt_label=-1, pid=photo.pid, camera=photo.camera, role=role)


def _number_labels(samples: list[dict]) -> int:
    """Set ``gt_label`` of each sample and return the number of labels."""
    label_of = {pid: label for label, pid in enumerate(sorted({sample['pid'] for sample in samples}))}
    for sample in samples:
        sample['gt_label'] = label_of[sample['pid']]
    return len(label_of)


def summarize(samples: Sequence[dict]) -> str:
    """Return one line with the numbers of images, identities and cameras of each role."""
    by_role: dict[str, list[dict]] = {}
    for sample in samples:
        by_role.setdefault(sample['role'], []).append(sample)
    return '; '.join(
        f'{role} {len(group):,} images of {len({sample["pid"] for sample in group}):,} identities '
        f'from {len({sample["camera"] for sample in group})} cameras'
        for role, group in by_role.items()
    )
