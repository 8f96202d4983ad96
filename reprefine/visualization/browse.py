"""Pictures of what a data set yields: original and transformed images with their annotation."""

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
from reprefine.visualization.pictures import tile, to_rgb8

MODES = ('original', 'transformed', 'concat', 'pipeline')
MIN_SIDE = 256


@dataclass
class Stage:
    """An image on its way through the pipeline.

    Attributes:
        name: Class name of the transform it left last.
        results: Copy of the dict that the transforms hand on.
    """

    name: str
    results: dict


class _Recorder:
    """Stands in a pipeline for one of its transforms and notes what leaves it."""

    def __init__(self, transform: Any, stages: list[Stage], first: bool):
        self.transform = transform
        self.stages = stages
        self.first = first

    def __call__(self, results: dict) -> dict | None:
        if self.first:
            # The data set may draw another image after a transform refused one.
            self.stages.clear()
            if 'img' in results:
                self.stages.append(Stage('data set', copy.deepcopy(results)))
        results = self.transform(results)
        if isinstance(results, dict) and 'img' in results:
            self.stages.append(Stage(type(self.transform).__name__, copy.deepcopy(results)))
        return results


class DatasetBrowser:
    """Draw the images of a config's data set.

    Args:
        cfg: Complete config.
        phase: ``train``, ``val`` or ``test``.

    Raises:
        UserError: The config has no such data set, or its files are missing.
    """

    def __init__(self, cfg: Config, phase: str = 'train'):
        loader = cfg.get(f'{phase}_dataloader')
        if not loader:
            raise UserError(f'{cfg.filename} has no {phase}_dataloader')
        try:
            self.dataset = DATASETS.build(loader.dataset)
        except (OSError, AssertionError) as error:
            raise UserError(f'data of the {phase} set not found ({error}); give --data-root DIR') from error
        self.stages: list[Stage] = []
        self.packers = [self._record(transforms) for transforms in _pipelines(self.dataset)]
        self.visualizer = _build_visualizer(cfg, self.dataset)
        # The one place where every host's visualizer hands over the finished picture.
        self.visualizer.add_image = self._keep
        self.drawn: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.dataset)

    def _record(self, transforms: list) -> Any:
        """Put recorders into a pipeline; return its last transform, which packs data samples."""
        packer = transforms[-1]
        transforms[:] = [_Recorder(t, self.stages, first=i == 0) for i, t in enumerate(transforms)]
        return packer

    def draw(self, index: int, mode: str = 'transformed') -> np.ndarray:
        """Draw one image.

        Args:
            index: Its index in the data set.
            mode: ``original``, ``transformed``, ``concat`` (both), or ``pipeline`` (after every transform).

        Returns:
            RGB picture of shape (height, width, 3), 8 bit.

        Raises:
            UserError: The pipeline yields no image.
        """
        self.dataset[index]
        if not self.stages:
            raise UserError("no transform of the pipeline yields a key 'img': nothing to draw")
        first, last = self._original(), self.stages[-1]
        if mode in ('original', 'transformed'):
            return self._annotate(first if mode == 'original' else last)
        chosen = [first, last] if mode == 'concat' else self.stages
        names = ['original', 'transformed'] if mode == 'concat' else [stage.name for stage in self.stages]
        titles = [f'{name}\n{_size(stage.results["img"])}' for name, stage in zip(names, chosen, strict=True)]
        return tile([self._annotate(stage) for stage in chosen], titles)

    def name(self, index: int) -> str:
        """Return a file stem for the image drawn last: its index, and the name of its file if it has one."""
        path = self.stages[-1].results.get('img_path')
        return f'{index:06d}_{Path(path).stem}' if isinstance(path, (str, os.PathLike)) else f'{index:06d}'

    def _original(self) -> Stage:
        """Return the last stage before an image is changed: all that images and annotations are loaded."""
        loaded = [i for i, stage in enumerate(self.stages) if stage.name.startswith(('Load', 'data set'))]
        return self.stages[loaded[-1] if loaded else 0]

    def _annotate(self, stage: Stage) -> np.ndarray:
        # An image that the data set hands over without reading a file is RGB by the custom of the host libraries.
        image = to_rgb8(stage.results['img'], is_bgr=self.stages[0].name != 'data set')
        sample = self._pack(stage.results)
        if sample is None:
            return image
        if hasattr(self.visualizer, 'visualize_cls'):
            # Text needs room: small images are enlarged without smoothing.
            scale = max(1, math.ceil(MIN_SIDE / min(image.shape[:2])))
            return self.visualizer.visualize_cls(image.repeat(scale, 0).repeat(scale, 1), sample, draw_pred=False)
        _plain_boxes(sample)
        self.drawn = None
        self.visualizer.add_datasample('image', image, sample, draw_gt=True, draw_pred=False)
        return image if self.drawn is None else self.drawn

    def _keep(self, name: str, image: np.ndarray, step: int = 0) -> None:
        self.drawn = image

    def _pack(self, results: dict) -> Any:
        """Turn the dict of a stage into a data sample, None where the packer cannot."""
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
    """Yield the outermost transform lists within wrapped and concatenated data sets."""
    pipeline = getattr(dataset, 'pipeline', None)
    transforms = getattr(pipeline, 'transforms', pipeline)
    if transforms:
        yield transforms
        return
    inner = getattr(dataset, 'datasets', None) or [getattr(dataset, 'dataset', None)]
    for part in inner:
        if part is not None:
            yield from _pipelines(part)


def _build_visualizer(cfg: Config, dataset: Any) -> Visualizer:
    """Build the config's visualizer without its storage backends."""
    visualizer_cfg = dict(
        cfg.get('visualizer') or dict(type='Visualizer'), vis_backends=None, name=f'browse_dataset_{id(dataset)}'
    )
    visualizer = VISUALIZERS.build(visualizer_cfg)
    meta = getattr(dataset, 'metainfo', {})
    setter = getattr(visualizer, 'set_dataset_meta', None)
    if setter and 'dataset_meta' in inspect.signature(setter).parameters:
        # mmpose derives the colours of its keypoints here; mmseg's function of that name takes something else.
        setter(meta)
    else:
        visualizer.dataset_meta = meta
    return visualizer


def _plain_boxes(sample: Any) -> None:
    """Replace box objects by their tensor, which is all that mmdet's visualizer draws."""
    boxes = sample.get('gt_instances', {}).get('bboxes')
    if hasattr(boxes, 'tensor'):
        sample.gt_instances.bboxes = boxes.tensor


def _size(image: np.ndarray | list) -> str:
    """Describe width and height; of several views, of the first."""
    first = image[0] if isinstance(image, (list, tuple)) else image
    return f'{first.shape[1]} x {first.shape[0]}'
