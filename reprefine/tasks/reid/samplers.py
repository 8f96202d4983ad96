"""Batches of P identities with K images each, for losses that compare images within a batch."""

from collections.abc import Iterator

import numpy as np
from mmengine.dataset import DefaultSampler
from torch.utils.data import BatchSampler

from reprefine.engine.errors import UserError
from reprefine.registry import DATA_SAMPLERS


def draw_groups(labels: np.ndarray, group_size: int, rng: np.random.Generator) -> dict[int, list[np.ndarray]]:
    """Cut the shuffled images of each identity into groups.

    An identity with fewer images than a group holds gives one group, drawn with replacement; otherwise the remainder
    that fills no group is left out.

    Args:
        labels: Identity of each image, shape (N,).
        group_size: Images in a group, K.
        rng: Source of the draws.

    Returns:
        For each identity its groups of image indices, each of shape (K,).
    """
    order = np.argsort(labels, kind='stable')
    identities, starts = np.unique(labels[order], return_index=True)
    groups = {}
    for identity, images in zip(identities.tolist(), np.split(order, starts[1:]), strict=True):
        if len(images) < group_size:
            groups[identity] = [rng.choice(images, group_size)]
        else:
            whole = len(images) // group_size * group_size
            groups[identity] = list(rng.permutation(images)[:whole].reshape(-1, group_size))
    return groups


def draw_batches(labels: np.ndarray, num_ids: int, num_instances: int, rng: np.random.Generator) -> np.ndarray:
    """Draw P identities that still have groups and take one group of each, until fewer than P remain.

    Args:
        labels: Identity of each image, shape (N,); at least P different ones.
        num_ids: Identities in a batch, P.
        num_instances: Images of an identity, K.
        rng: Source of the draws.

    Returns:
        Image indices, shape (batches, P, K).
    """
    groups = draw_groups(labels, num_instances, rng)
    batches = []
    while len(groups) >= num_ids:
        chosen = rng.choice(list(groups), num_ids, replace=False).tolist()
        batches.append([groups[identity].pop() for identity in chosen])
        groups = {identity: left for identity, left in groups.items() if left}
    return np.array(batches)


@DATA_SAMPLERS.register_module()
class PKSampler(BatchSampler):
    """Batches of P identities with K images each, as the ``batch_sampler`` of a data loader.

    P follows from the loader's ``batch_size`` = P x K. All processes draw the same batches of P x processes
    identities and take P of them each, so two processes see what one with the double batch size sees. The number of
    batches varies from epoch to epoch by the draw.

    Args:
        sampler: The loader's ``sampler``, which provides the data set, seed, epoch and rank; its own order is unused.
        batch_size: Images per batch and process.
        num_instances: Images of an identity, K.

    Raises:
        UserError: K does not divide the batch size, or the data have too few identities or images for P and K.
    """

    def __init__(self, sampler: DefaultSampler, batch_size: int, num_instances: int = 4):
        super().__init__(sampler, batch_size, drop_last=True)
        self.num_instances = num_instances
        self.num_ids = batch_size // num_instances
        dataset = sampler.dataset
        self.labels = np.array([dataset.get_data_info(index)['gt_label'] for index in range(len(dataset))])
        self._check_sizes()
        self._drawn: tuple[int, np.ndarray] | None = None

    def _check_sizes(self) -> None:
        size, k, processes = self.batch_size, self.num_instances, self.sampler.world_size
        if size % k:
            raise UserError(f'PKSampler: batch_size {size} is no multiple of num_instances {k}')
        counts = np.unique(self.labels, return_counts=True)[1]
        if len(counts) < self.num_ids * processes:
            raise UserError(
                f'PKSampler: a batch of {size} x {processes} processes holds {self.num_ids * processes} identities '
                f'of {k} images, but the data have {len(counts)}; lower batch_size'
            )
        if counts.max() < k:
            raise UserError(f'PKSampler: no identity has num_instances = {k} images, the most is {counts.max()}')

    def _batches(self) -> np.ndarray:
        """Return the batches of all processes in this epoch, shape (batches, P x processes, K)."""
        epoch = self.sampler.epoch
        if self._drawn is None or self._drawn[0] != epoch:
            rng = np.random.default_rng([self.sampler.seed, epoch])
            identities = self.num_ids * self.sampler.world_size
            self._drawn = epoch, draw_batches(self.labels, identities, self.num_instances, rng)
        return self._drawn[1]

    def __iter__(self) -> Iterator[list[int]]:
        first = self.num_ids * self.sampler.rank
        share = self._batches()[:, first : first + self.num_ids]
        return iter(share.reshape(-1, self.batch_size).tolist())

    def __len__(self) -> int:
        """Number of batches in the current epoch."""
        return len(self._batches())
