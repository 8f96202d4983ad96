"""Histogram of the selected timesteps of each epoch, with statistics of the policy."""

import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from mmengine.dist import all_reduce
from torch import Tensor

from reprefine.engine.errors import UserError
from reprefine.engine.files import atomic_write

HISTOGRAM_FILE = 'timestep_hist.npz'
STATS = (
    'timestep_mean',
    'timestep_std',
    'reward',
    'reward_baseline',
    'policy_entropy',
    'effective_timesteps',
    'head_accuracy',
)


class TimestepHistogram:
    """Counts of the running epoch, summed over all ranks, and a row for each finished epoch.

    Args:
        num_timesteps: ``T``.
        num_classes: Number of classes whose mean timestep is recorded; 0: none.
        device: Device of the counts.
    """

    def __init__(self, num_timesteps: int, num_classes: int = 0, device: torch.device | str = 'cpu') -> None:
        # Count of each timestep; sum of timesteps and count of each class; sum and count of each statistic.
        sizes = dict(counts=(num_timesteps,), classes=(2, num_classes), stats=(2, len(STATS)))
        self.running = {key: torch.zeros(size, dtype=torch.float64, device=device) for key, size in sizes.items()}
        self.rows = {'epochs': torch.zeros(0), **{key: torch.zeros(0, *size) for key, size in sizes.items()}}
        self.rows = {key: value.double() for key, value in self.rows.items()}

    def add(self, t: Tensor, labels: Tensor | None, stats: Tensor) -> None:
        """Add a batch; the counts are summed over ranks.

        Args:
            t: Timesteps ``[N]``.
            labels: Labels ``[N]``, -1 for an unlabelled image.
            stats: Values of :data:`STATS`, means over ranks; NaN for a missing one.
        """
        batch = {key: torch.zeros_like(value) for key, value in self.running.items() if key != 'stats'}
        ones = torch.ones_like(t, dtype=torch.float64)
        batch['counts'].index_add_(0, t, ones)
        if labels is not None and batch['classes'].numel():
            is_labelled = (labels >= 0) * ones
            batch['classes'].index_add_(1, labels.clamp(min=0), torch.stack([is_labelled * t, is_labelled]))
        flat = torch.cat([value.flatten() for value in batch.values()])
        all_reduce(flat, 'sum')
        for key, counts in zip(batch, flat.split([value.numel() for value in batch.values()]), strict=True):
            self.running[key] += counts.view_as(self.running[key])
        self.running['stats'] += torch.stack([stats.nan_to_num(0.0), (~stats.isnan()).to(stats)]).double()

    def mean(self, stat: str) -> float:
        """Return the mean of a statistic over the running epoch; NaN if it has no values."""
        total, count = self.running['stats'][:, STATS.index(stat)].tolist()
        return total / count if count else float('nan')

    def end_epoch(self, epoch: int) -> None:
        """Append the running counts as the row of ``epoch`` (counted from 1), and reset them."""
        new = {'epochs': torch.tensor(float(epoch)), **self.running}
        self.rows = {key: torch.cat([rows, new[key].cpu().double()[None]]) for key, rows in self.rows.items()}
        for value in self.running.values():
            value.zero_()

    def total(self) -> Tensor:
        """Return the counts ``[T]`` of all epochs, the running one included."""
        return self.rows['counts'].sum(dim=0) + self.running['counts'].cpu()

    def save(self, path: Path) -> None:
        """Write the rows to a file, atomically."""
        sums, counts = self.rows['stats'].numpy().transpose(1, 0, 2)
        columns = {
            name: np.where(n > 0, s / np.maximum(n, 1), np.nan)
            for name, s, n in zip(STATS, sums.T, counts.T, strict=True)
        }
        with atomic_write(path) as partial:
            np.savez_compressed(
                partial,
                epochs=self.rows['epochs'].numpy().astype(np.int64),
                counts=self.rows['counts'].numpy().astype(np.int64),
                class_sums=self.rows['classes'][:, 0].numpy(),
                class_counts=self.rows['classes'][:, 1].numpy().astype(np.int64),
                **columns,
            )

    def state_dict(self) -> dict[str, dict[str, Tensor]]:
        """Return the running counts and the rows."""
        return dict(running={key: value.cpu().clone() for key, value in self.running.items()}, rows=dict(self.rows))

    def load_state_dict(self, state: dict[str, dict[str, Tensor]]) -> None:
        """Load the counts and rows of :meth:`state_dict`."""
        for key, value in self.running.items():
            value.copy_(state['running'][key])
        self.rows = {key: value.cpu() for key, value in state['rows'].items()}


class RunHistogram(NamedTuple):
    """Histogram of a run, as read from its file.

    Attributes:
        name: Name of the work directory.
        epochs: ``[E]``, counted from 1.
        counts: Counts of each timestep ``[E, T]``.
        class_means: Mean timestep of each class ``[E, K]``; NaN for a class without images.
        stats: Means ``[E]`` of each of :data:`STATS`; NaN without values.
    """

    name: str
    epochs: np.ndarray
    counts: np.ndarray
    class_means: np.ndarray
    stats: dict[str, np.ndarray]


def read_histogram(source: str | Path) -> RunHistogram:
    """Read the histogram of a run.

    Args:
        source: Work directory, or the file.

    Raises:
        UserError: If there is no histogram, or the file is corrupted.
    """
    path = Path(source)
    path = path / HISTOGRAM_FILE if path.is_dir() else path
    if not path.is_file():
        raise UserError(f'{source} has no {HISTOGRAM_FILE}: train with reprefine.RLTimestepSelectorHook')
    try:
        with np.load(path, allow_pickle=False) as file:
            columns = {key: file[key] for key in file.files}
        sums, counts = columns['class_sums'], columns['class_counts']
        means = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
        stats = {key: columns[key] for key in STATS}
        return RunHistogram(path.resolve().parent.name, columns['epochs'], columns['counts'], means, stats)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(
            f'{path} is corrupted or no histogram of timesteps ({type(error).__name__}): resume the run to write it '
            'again'
        ) from error
