"""Visualization of predictions that are smaller than the image."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mmcv
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.engine.hooks import SegVisualizationHook

from reprefine.engine.data_checks.images import read_image
from reprefine.registry import HOOKS


@HOOKS.register_module()
class FaceVisualizationHook(SegVisualizationHook):
    """mmseg's ``SegVisualizationHook`` for :class:`ResizeToMask`: draws on the image at the size of the label map."""

    # The class of mmseg's fork draws in these methods, without _after_iter.
    after_val_iter, after_test_iter = Hook.after_val_iter, Hook.after_test_iter

    def _after_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any, outputs: Sequence[Any], mode: str = 'val'
    ) -> None:
        if not self.draw or mode == 'train' or not self.every_n_inner_iters(batch_idx, self.interval):
            return
        for sample in outputs:
            self._visualizer.add_datasample(
                f'{mode}_{Path(sample.img_path).name}',
                mmcv.imresize(read_image(sample.img_path), sample.ori_shape[::-1]),
                data_sample=sample,
                show=self.show,
                wait_time=self.wait_time,
                step=runner.iter,
            )
