"""mmengine's CheckpointHook, which deletes an old checkpoint only when the new one is written."""

import os
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from . import integrity

STOP_CHECKPOINT = 'stop_checkpoint'  # under which the message hub knows what a signal had written


class DeferredRemovalBackend(LocalBackend):
    """The local disk, whose removals wait for :meth:`remove_deferred`."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Path, int]] = []

    def remove(self, filepath: str | Path) -> None:
        """Note that a file is to go. One written under its name in the meantime stays."""
        self._waiting.append((Path(filepath), os.stat(filepath).st_ino))

    def remove_deferred(self) -> None:
        """Delete the files, with their checksums."""
        waiting, self._waiting = self._waiting, []
        for path, inode in waiting:
            if path.is_file() and path.stat().st_ino == inode:
                integrity.remove_checkpoint(path)


class SafeCheckpointHook(CheckpointHook):
    """The hook that :class:`reprefine.engine.runner.Runner` builds where a config asks for mmengine's.

    mmengine deletes the checkpoints beyond ``max_keep_ckpts``, and the former best one, before it writes the next: a
    full disk or a kill at that moment would leave none. Here they go afterwards.
    """

    def before_train(self, runner: Runner) -> None:
        """Prepare as mmengine does; removals on the local disk wait from now on.

        A resumed run knows its last checkpoint, which is written again when a validation finds it to be the best.
        """
        super().before_train(runner)
        last = runner.message_hub.runtime_info.get('last_ckpt')
        if last is not None:
            path = self.file_backend.join_path(self.out_dir, Path(last).name)
            self.last_ckpt = path if self.file_backend.isfile(path) else None
        if type(self.file_backend) is LocalBackend:
            self.file_backend = DeferredRemovalBackend()

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict[str, Any]) -> None:
        stale = runner.message_hub.runtime_info.pop(STOP_CHECKPOINT, None)
        super()._save_checkpoint_with_step(runner, step, meta)
        self._remove_outdated()
        if stale is not None and is_main_process():
            integrity.remove_checkpoint(Path(stale))

    def _save_best_checkpoint(self, runner: Runner, metrics: dict[str, Any]) -> None:
        super()._save_best_checkpoint(runner, metrics)
        self._remove_outdated()

    def _remove_outdated(self) -> None:
        if isinstance(self.file_backend, DeferredRemovalBackend):
            self.file_backend.remove_deferred()
