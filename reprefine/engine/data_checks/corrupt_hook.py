"""Telling of the training samples that were replaced, and the loader that replaces them."""

from typing import Any

from mmengine.dist import barrier, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from .corrupt import CorruptRecord, replace_unreadable
from .data_errors import name_unreadable_files

POLL = 50  # iterations between two looks at the record


class CorruptSamplesHook(Hook):
    """Warn once of each replaced sample, and list all of them when training ends.

    Args:
        record: Where they are counted.
        resumed: Whether the record of a former run is continued; otherwise it is cleared.
    """

    priority = 'LOW'

    def __init__(self, record: CorruptRecord, resumed: bool):
        self.record = record
        if is_main_process() and not resumed:
            record.clear()
        barrier()
        self._told = len(record.read())

    def before_train_epoch(self, runner: Runner) -> None:
        """Reach the pipelines that other hooks have exchanged."""
        name_unreadable_files(runner.train_dataloader.dataset)

    def after_train_iter(self, runner: Runner, batch_idx: int, *args: Any, **kwargs: Any) -> None:
        """Look at the record now and then: it is on the disk, whichever worker has written it."""
        if self.every_n_train_iters(runner, POLL):
            self._warn(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        """Warn of what is new."""
        self._warn(runner)

    def after_train(self, runner: Runner) -> None:
        """List everything that was replaced."""
        self._warn(runner)
        corrupt, empty = self.record.read(), self.record.count_empty()
        if corrupt:
            lines = ''.join(f'\n  {one.reason}' for one in corrupt)
            runner.logger.warning(
                f'{len(corrupt)} training samples could not be read and were replaced, as {self.record.path} lists '
                f'(max_corrupt_samples = {self.record.cap}):{lines}'
            )
        if empty:
            runner.logger.warning(
                f'pipelines returned no sample {empty} times, such as when a crop leaves no object; the data sets drew '
                'others instead'
            )

    def _warn(self, runner: Runner) -> None:
        if not is_main_process():
            return
        for one in self.record.read()[self._told :]:
            runner.logger.warning(f'replaced by the next sample: {one.reason}')
            self._told += 1


def build_tolerant_loader(runner: Runner) -> None:
    """Build the training loader of a runner, in place, over a data set that replaces unreadable samples.

    Call it before the training loop is built: a loop over iterations starts the workers at once. The top-level config
    key ``max_corrupt_samples`` is the number of distinct files that may be replaced, default 0; the hook that lists
    them is registered.

    Args:
        runner: A runner of mmengine's kind.
    """
    record = CorruptRecord(runner.work_dir, runner.cfg.get('max_corrupt_samples', 0))
    runner.register_hook(CorruptSamplesHook(record, runner._resume))
    different = runner._randomness_cfg.get('diff_rank_seed', False)
    loader = runner.build_dataloader(runner._train_dataloader, seed=runner.seed, diff_rank_seed=different)
    replace_unreadable(loader.dataset, record)
    runner._train_dataloader = loader
