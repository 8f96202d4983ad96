"""Visualization of a dataset: original and transformed images with their annotations."""

import copy
import inspect
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.registry import DATASETS, VISUALIZERS
from mmengine.visualization import Visualizer

from reprefine.engine.errors import UserError
from reprefine.visualization.images import image_grid, to_rgb8

MODES = ('original', 'transformed', 'concat', 'pipeline')
MIN_SIDE = 256


@dataclass
class Stage:
    """Output of one transform of the pipeline.

    Attributes:
        name: Class name of the transform, or ``dataset`` for the input of the first one.
        results: Copy of the results dict.
    """

    name: str
    results: dict


class _RecordingTransform:
    """Wraps a transform of a pipeline and appends its output to ``stages``."""

    def __init__(self, transform: Any, stages: list[Stage], first: bool):
        self.transform = transform
        self.stages = stages
        self.first = first

    def __call__(self, results: dict) -> dict | None:
        if self.first:
            # The dataset tries another image if a transform returns None.
            self.stages.clear()
            if 'img' in results:
                self.stages.append(Stage('dataset', copy.deepcopy(results)))
        results = self.transform(results)
        if isinstance(results, dict) and 'img' in results:
            self.stages.append(Stage(type(self.transform).__name__, copy.deepcopy(results)))
        return results


class DatasetBrowser:
    """Draws the images of a config's dataset.

    Args:
        cfg: Complete config.
        phase: ``train``, ``val`` or ``test``.

    Raises:
        UserError: The config has no such dataloader, or files of the dataset are missing.
    """

    def __init__(self, cfg: Config, phase: str = 'train'):
        loader = cfg.get(f'{phase}_dataloader')
        if not loader:
            raise UserError(f'{cfg.filename} has no {phase}_dataloader: choose another phase')
        try:
            self.dataset = DATASETS.build(loader.dataset)
        except (OSError, AssertionError) as error:
            raise UserError(f'{phase} dataset not found ({error}); give --data-root DIR') from error
        self.stages: list[Stage] = []
        self.packers = [self._record(transforms) for transforms in _pipelines(self.dataset)]
        self.visualizer = _build_visualizer(cfg, self.dataset)
        # The visualizers of all host libraries pass the finished image to add_image.
        self.visualizer.add_image = self._store_image
        self.image: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.dataset)

    def _record(self, transforms: list) -> Any:
        """Wrap all transforms of a pipeline; return the last one, which packs data samples."""
        packer = transforms[-1]
        transforms[:] = [_RecordingTransform(t, self.stages, first=i == 0) for i, t in enumerate(transforms)]
        return packer

    def draw(self, index: int, mode: str = 'transformed') -> np.ndarray:
        """Draw one image.

        Args:
            index: Index of the image in the dataset.
            mode: ``original``, ``transformed``, ``concat`` (both), or ``pipeline`` (after every transform).

        Returns:
            RGB image, uint8 of shape (height, width, 3).

        Raises:
            UserError: The pipeline has no image.
        """
        self.dataset[index]
        if not self.stages:
            raise UserError("no transform of the pipeline sets 'img': add one that loads an image")
        first, last = self._original(), self.stages[-1]
        if mode in ('original', 'transformed'):
            return self._annotate(first if mode == 'original' else last)
        chosen = [first, last] if mode == 'concat' else self.stages
        names = ['original', 'transformed'] if mode == 'concat' else [stage.name for stage in self.stages]
        titles = [f'{name}\n{_size(stage.results["img"])}' for name, stage in zip(names, chosen, strict=True)]
        return image_grid([self._annotate(stage) for stage in chosen], titles)

    def name(self, index: int) -> str:
        """Return a file stem for the last image: its index, and the stem of its file if it has one."""
        path = self.stages[-1].results.get('img_path')
        return f'{index:06d}_{Path(path).stem}' if isinstance(path, (str, os.PathLike)) else f'{index:06d}'

    def _original(self) -> Stage:
        """Return the last loading stage, which has image and annotations before any augmentation."""
        loaded = [i for i, stage in enumerate(self.stages) if stage.name.startswith(('Load', 'dataset'))]
        return self.stages[loaded[-1] if loaded else 0]

    def _annotate(self, stage: Stage) -> np.ndarray:
        # In the host libraries images from files are BGR, images that the dataset itself provides are RGB.
        image = to_rgb8(stage.results['img'], is_bgr=self.stages[0].name != 'dataset')
        sample = self._pack(stage.results)
        if sample is None:
            return image
        if hasattr(self.visualizer, 'visualize_cls'):
            # Small images are upsampled without interpolation, so that the text fits.
            scale = max(1, math.ceil(MIN_SIDE / min(image.shape[:2])))
            return self.visualizer.visualize_cls(image.repeat(scale, 0).repeat(scale, 1), sample, draw_pred=False)
        _boxes_to_tensor(sample)
        self.image = None
        self.visualizer.add_datasample('image', image, sample, draw_gt=True, draw_pred=False)
        return image if self.image is None else self.image

    def _store_image(self, name: str, image: np.ndarray, step: int = 0) -> None:
        self.image = image

    def _pack(self, results: dict) -> Any:
        """Return the data sample of a results dict, None if no packer returns one."""
        for packer in self.packers:
            packer = copy.copy(packer)
            if hasattr(packer, 'meta_keys'):
                packer.meta_keys = [key for key in packer.meta_keys if key in results]
            if hasattr(packer, 'pack_transformed'):
                packer.pack_transformed = 'transformed_keypoints' in results
            packed = packer(copy.deepcopy(results))
            if isinstance(packed, dict) and 'data_samples' in packed:
                return packed['data_samples']
        return None


def _pipelines(dataset: Any) -> Iterator[list]:
    """Yield the list of transforms of each dataset within wrappers and concatenations."""
    pipeline = getattr(dataset, 'pipeline', None)
    transforms = getattr(pipeline, 'transforms', pipeline)
    if transforms:
        yield transforms
        return
    inner = getattr(dataset, 'datasets', None) or [getattr(dataset, 'dataset', None)]
    for wrapped in inner:
        if wrapped is not None:
            yield from _pipelines(wrapped)


def _build_visualizer(cfg: Config, dataset: Any) -> Visualizer:
    """Build the config's visualizer without its storage backends."""
    visualizer_cfg = dict(
        cfg.get('visualizer') or dict(type='Visualizer'), vis_backends=None, name=f'browse_dataset_{id(dataset)}'
    )
    visualizer = VISUALIZERS.build(visualizer_cfg)
    meta = getattr(dataset, 'metainfo', {})
    setter = getattr(visualizer, 'set_dataset_meta', None)
    if setter and 'dataset_meta' in inspect.signature(setter).parameters:
        # mmpose sets the colours of keypoints here; mmseg's method of this name has other arguments.
        setter(meta)
    else:
        visualizer.dataset_meta = meta
    return visualizer


def _boxes_to_tensor(sample: Any) -> None:
    """Replace box objects by their tensors, as mmdet's visualizer requires."""
    boxes = sample.get('gt_instances', {}).get('bboxes')
    if hasattr(boxes, 'tensor'):
        sample.gt_instances.bboxes = boxes.tensor


def _size(image: np.ndarray | list) -> str:
    """Return ``width x height``, of the first image if there are several views."""
    first = image[0] if isinstance(image, (list, tuple)) else image
    return f'{first.shape[1]} x {first.shape[0]}'
