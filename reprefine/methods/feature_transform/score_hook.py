"""Hook that writes score statistics to files."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_reduce, get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner

from reprefine.engine.build import unwrap
from reprefine.registry import HOOKS

from .score_files import KEYS, OWN, read_block, write_block


@HOOKS.register_module()
class ScoreStatsHook(Hook):
    """Writes the score statistics in the loss dict to one file per epoch.

    The files are ``{work_dir}/{out_dir}/epoch_001.npz``, or ``block_00001.npz`` for training by iterations. A resumed
    run continues them; records after the iteration from which it resumes are moved to a sub-folder ``replaced_<time>``.

    Args:
        interval: Iterations between two records.
        flush_interval: Iterations between two writes, which synchronise with the GPU; also the length of a block.
        reduce: Whether to average over the ranks; otherwise the values are those of the samples of rank 0.
        out_dir: Folder inside the work directory.
    """

    priority = 'LOW'

    def __init__(
        self, interval: int = 1, flush_interval: int = 500, reduce: bool = False, out_dir: str = 'score_stats'
    ) -> None:
        self.interval, self.flush_interval, self.reduce, self.out_dir = interval, flush_interval, reduce, out_dir
        self._iters: list[int] = []
        self._rows: list[torch.Tensor] = []
        self._keys: list[str] | None = None

    def before_train(self, runner: Runner) -> None:
        """Move records of iterations that will be computed again."""
        self._iters, self._rows, self._keys = [], [], None
        if is_main_process():
            move_replaced_blocks(Path(runner.work_dir) / self.out_dir, runner.iter, f'replaced_{runner.timestamp}')

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, torch.Tensor] | None = None
    ) -> None:
        """Record the statistics of the iteration, on their device."""
        if self._keys is None:
            self._keys = [key for key in KEYS if key in (outputs or {})]
            if not self._keys:
                warnings.warn(
                    f'ScoreStatsHook records nothing: {type(unwrap(runner.model)).__name__} returns no score '
                    'statistics; use reprefine.MoCoFT with with_score_stats=True',
                    stacklevel=2,
                )
        if self._keys and (runner.iter + 1) % self.interval == 0:
            self._iters.append(runner.iter + 1)
            self._rows.append(torch.stack([outputs[key].detach().float() for key in self._keys]))
        if (runner.iter + 1) % self.flush_interval == 0:
            self._flush(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        """Write the records at the end of an epoch."""
        if isinstance(runner.train_loop, EpochBasedTrainLoop):
            self._flush(runner)

    def before_gather_state(self, runner: Runner) -> None:
        """Write the records that a run resumed from the next checkpoint will not compute again."""
        self._flush(runner)

    def after_train(self, runner: Runner) -> None:
        """Write the remaining records."""
        self._flush(runner)

    def _flush(self, runner: Runner) -> None:
        if not self._rows:
            return
        rows, iters = torch.stack(self._rows), np.array(self._iters, np.int64)
        self._rows, self._iters = [], []
        if self.reduce:
            all_reduce(rows, 'mean')
        if not is_main_process():
            return
        values = dict(zip(self._keys, rows.cpu().numpy().T, strict=True))
        path = self._path(runner, int(iters[-1]))
        if path.exists():
            earlier, columns, _ = read_block(path)
            iters = np.concatenate([earlier, iters])
            values = {key: np.concatenate([columns[key], new]) for key, new in values.items() if key in columns}
        write_block(path, iters, values, self._meta(runner))

    def _path(self, runner: Runner, iteration: int) -> Path:
        by_epoch = isinstance(runner.train_loop, EpochBasedTrainLoop)
        epoch, block = ((iteration - 1) // n + 1 for n in (len(runner.train_dataloader), self.flush_interval))
        name = f'epoch_{epoch:03d}.npz' if by_epoch else f'block_{block:05d}.npz'
        return Path(runner.work_dir) / self.out_dir / name

    def _meta(self, runner: Runner) -> dict[str, Any]:
        model = unwrap(runner.model)
        queue = getattr(model, 'queue', None)
        return dict(
            temperature=getattr(getattr(model, 'head', None), 'temperature', None),
            queue_len=None if queue is None else queue.shape[1],
            feat_dim=None if queue is None else queue.shape[0],
            batch_size=runner.train_dataloader.batch_size,
            world_size=get_world_size(),
            epoch_length=len(runner.train_dataloader),
            feature_transform=getattr(getattr(model, 'feature_transform', None), 'config', None),
            reduce=self.reduce,
        )


def move_replaced_blocks(folder: Path, last: int, name: str) -> None:
    """Move files with iterations after ``last`` to a sub-folder, and rewrite them with the iterations up to ``last``.

    Args:
        folder: Folder of the statistics; it may be missing.
        last: Last iteration to keep.
        name: Name of the sub-folder, created if needed.
    """
    for path in sorted(folder.glob('*.npz')):
        if not OWN.fullmatch(path.name):
            continue
        iters, values, meta = read_block(path)
        if iters.max(initial=0) <= last:
            continue
        (folder / name).mkdir(exist_ok=True)
        path.rename(folder / name / path.name)
        kept = iters <= last
        if kept.any():
            write_block(path, iters[kept], {key: column[kept] for key, column in values.items()}, meta)
