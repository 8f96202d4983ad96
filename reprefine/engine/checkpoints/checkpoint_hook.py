"""mmengine's CheckpointHook, which deletes old checkpoints only after the new one is written."""

import os
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.fileio import BaseStorageBackend, LocalBackend
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from . import integrity

STOP_CHECKPOINT = 'stop_checkpoint'  # message hub key of the checkpoint that a signal has written


class DeferredRemovalBackend(LocalBackend):
    """File backend of the local disk that deletes files only in :meth:`remove_deferred`."""

    def __init__(self) -> None:
        self._to_remove: list[tuple[Path, int]] = []

    def remove(self, filepath: str | Path) -> None:
        """Mark a file for deletion. A file that is written under its name in the meantime is kept."""
        self._to_remove.append((Path(filepath), os.stat(filepath).st_ino))

    def remove_deferred(self) -> None:
        """Delete the marked files and their checksums."""
        marked, self._to_remove = self._to_remove, []
        for path, inode in marked:
            if path.is_file() and path.stat().st_ino == inode:
                integrity.remove_checkpoint(path)


class SafeCheckpointHook(CheckpointHook):
    """The hook that :class:`reprefine.engine.runner.Runner` builds from a config of mmengine's ``CheckpointHook``.

    mmengine deletes the checkpoints beyond ``max_keep_ckpts`` and the former best one before it writes the next one: if
    the disk is full or the process is killed then, no checkpoint is left. This hook deletes them afterwards.
    """

    file_backend: BaseStorageBackend

    def before_train(self, runner: Runner) -> None:
        """Prepare as mmengine does, with deferred removals on the local disk.

        In a resumed run ``last_ckpt`` is restored, because mmengine writes this checkpoint again if its validation is
        the best.
        """
        super().before_train(runner)
        last = runner.message_hub.runtime_info.get('last_ckpt')
        if last is not None:
            path = self.file_backend.join_path(self.out_dir, Path(last).name)
            self.last_ckpt = path if self.file_backend.isfile(path) else None
        if type(self.file_backend) is LocalBackend:
            self.file_backend = DeferredRemovalBackend()

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict[str, Any]) -> None:
        replaced = runner.message_hub.runtime_info.pop(STOP_CHECKPOINT, None)
        super()._save_checkpoint_with_step(runner, step, meta)
        self._remove_outdated()
        if replaced is not None and is_main_process():
            integrity.remove_checkpoint(Path(replaced))

    def _save_best_checkpoint(self, runner: Runner, metrics: dict[str, Any]) -> None:
        super()._save_best_checkpoint(runner, metrics)
        self._remove_outdated()

    def _remove_outdated(self) -> None:
        if isinstance(self.file_backend, DeferredRemovalBackend):
            self.file_backend.remove_deferred()
