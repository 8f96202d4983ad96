"""PK sampling: batches of P identities with K images each, for triplet losses."""

from collections.abc import Iterator

import numpy as np
from mmengine.dataset import DefaultSampler
from torch.utils.data import BatchSampler

from reprefine.engine.errors import UserError
from reprefine.registry import DATA_SAMPLERS


def draw_groups(labels: np.ndarray, group_size: int, rng: np.random.Generator) -> dict[int, list[np.ndarray]]:
    """Split the shuffled images of each identity into groups of K images.

    An identity with fewer than K images has one group, sampled with replacement; otherwise the remainder is dropped.

    Args:
        labels: Identity of each image, shape (N,).
        group_size: Number K of images in a group.
        rng: Source of the random numbers.

    Returns:
        Groups of image indices of each identity, each of shape (K,).
    """
    order = np.argsort(labels, kind='stable')
    identities, starts = np.unique(labels[order], return_index=True)
    groups = {}
    for identity, images in zip(identities.tolist(), np.split(order, starts[1:]), strict=True):
        if len(images) < group_size:
            groups[identity] = [rng.choice(images, group_size)]
        else:
            length = len(images) // group_size * group_size
            groups[identity] = list(rng.permutation(images)[:length].reshape(-1, group_size))
    return groups


def draw_batches(labels: np.ndarray, num_ids: int, num_instances: int, rng: np.random.Generator) -> np.ndarray:
    """Repeatedly draw P identities and take one group of each, until fewer than P identities have groups left.

    Args:
        labels: Identity of each image, shape (N,), with at least P identities.
        num_ids: Number P of identities in a batch.
        num_instances: Number K of images per identity.
        rng: Source of the random numbers.

    Returns:
        Image indices, shape (batches, P, K).
    """
    groups = draw_groups(labels, num_instances, rng)
    batches = []
    while len(groups) >= num_ids:
        chosen = rng.choice(list(groups), num_ids, replace=False).tolist()
        batches.append([groups[identity].pop() for identity in chosen])
        groups = {identity: rest for identity, rest in groups.items() if rest}
    return np.array(batches)


@DATA_SAMPLERS.register_module()
class PKSampler(BatchSampler):
    """Batches of P identities with K images each, as the ``batch_sampler`` of a data loader.

    P is the loader's ``batch_size`` / K. All processes draw the same batches of P x world size identities, and each
    takes P of them: two processes get the batches of one process with twice the batch size. The number of batches
    varies between epochs.

    Args:
        sampler: The loader's ``sampler``; only its dataset, seed, epoch, rank and world size are used.
        batch_size: Number of images per batch and process.
        num_instances: Number K of images per identity.

    Raises:
        UserError: The batch size is not a multiple of K, or there are too few identities or images for P and K.
    """

    def __init__(self, sampler: DefaultSampler, batch_size: int, num_instances: int = 4):
        super().__init__(sampler, batch_size, drop_last=True)
        self.num_instances = num_instances
        self.num_ids = batch_size // num_instances
        dataset = sampler.dataset
        self.labels = np.array([dataset.get_data_info(index)['gt_label'] for index in range(len(dataset))])
        self._check_sizes()
        self._cache: tuple[int, np.ndarray] | None = None

    def _check_sizes(self) -> None:
        size, k, processes = self.batch_size, self.num_instances, self.sampler.world_size
        if size % k:
            raise UserError(f'PKSampler: batch_size {size} is not a multiple of num_instances {k}: change one of them')
        counts = np.unique(self.labels, return_counts=True)[1]
        if len(counts) < self.num_ids * processes:
            raise UserError(
                f'PKSampler: a batch of {size} x {processes} processes has {self.num_ids * processes} identities '
                f'of {k} images, but the dataset has {len(counts)} identities; lower batch_size'
            )
        if counts.max() < k:
            raise UserError(
                f'PKSampler: no identity has num_instances={k} images, the maximum is {counts.max()}: lower it'
            )

    def _batches(self) -> np.ndarray:
        """Return the batches of all processes in this epoch, shape (batches, P x processes, K)."""
        epoch = self.sampler.epoch
        if self._cache is None or self._cache[0] != epoch:
            rng = np.random.default_rng([self.sampler.seed, epoch])
            identities = self.num_ids * self.sampler.world_size
            self._cache = epoch, draw_batches(self.labels, identities, self.num_instances, rng)
        return self._cache[1]

    def __iter__(self) -> Iterator[list[int]]:
        first = self.num_ids * self.sampler.rank
        share = self._batches()[:, first : first + self.num_ids]
        return iter(share.reshape(-1, self.batch_size).tolist())

    def __len__(self) -> int:
        """Number of batches in the current epoch."""
        return len(self._batches())
