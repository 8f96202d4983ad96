"""The hook that logs replaced training samples, and the data loader that replaces them."""

from typing import Any

from mmengine.dist import barrier, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from .corrupt_samples import CorruptRecord, replace_unreadable
from .unreadable import name_unreadable_files

POLL_INTERVAL = 50  # iterations


class CorruptSamplesHook(Hook):
    """Warns once of each replaced sample, and lists all of them when training ends.

    Args:
        record: Counts the replaced samples.
        resumed: Whether the record of a former run is continued; otherwise it is cleared.
    """

    priority = 'LOW'

    def __init__(self, record: CorruptRecord, resumed: bool):
        self.record = record
        if is_main_process() and not resumed:
            record.clear()
        barrier()
        self._num_logged = len(record.read())

    def before_train_epoch(self, runner: Runner) -> None:
        """Wrap the pipelines that other hooks have replaced."""
        name_unreadable_files(runner.train_dataloader.dataset)

    def after_train_iter(self, runner: Runner, batch_idx: int, *args: Any, **kwargs: Any) -> None:
        """Read the record, to which workers of any process write, at an interval."""
        if self.every_n_train_iters(runner, POLL_INTERVAL):
            self._log_new(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        """Warn of samples that are new in the record."""
        self._log_new(runner)

    def after_train(self, runner: Runner) -> None:
        """List all replaced samples."""
        self._log_new(runner)
        corrupt, empty = self.record.read(), self.record.count_empty()
        if corrupt:
            lines = ''.join(f'\n  {sample.reason}' for sample in corrupt)
            runner.logger.warning(
                f'{len(corrupt)} training samples could not be read and were replaced, as {self.record.path} lists '
                f'(max_corrupt_samples = {self.record.limit}):{lines}'
            )
        if empty:
            runner.logger.warning(
                f'pipelines returned no sample {empty} times, such as when a crop leaves no object; the datasets drew '
                'others instead'
            )

    def _log_new(self, runner: Runner) -> None:
        if not is_main_process():
            return
        for sample in self.record.read()[self._num_logged :]:
            runner.logger.warning(f'replaced by the next sample: {sample.reason}')
            self._num_logged += 1


def build_replacing_loader(runner: Runner) -> None:
    """Build the training loader of a runner, in place, over a dataset that replaces unreadable samples.

    Call it before the training loop is built: a loop over iterations starts the workers at once. The top-level config
    key ``max_corrupt_samples`` is the number of distinct files that may be replaced, default 0; a
    :class:`CorruptSamplesHook` is registered.

    Args:
        runner: A runner of mmengine.
    """
    record = CorruptRecord(runner.work_dir, runner.cfg.get('max_corrupt_samples', 0))
    runner.register_hook(CorruptSamplesHook(record, runner._resume))
    different = runner._randomness_cfg.get('diff_rank_seed', False)
    loader = runner.build_dataloader(runner._train_dataloader, seed=runner.seed, diff_rank_seed=different)
    replace_unreadable(loader.dataset, record)
    runner._train_dataloader = loader
