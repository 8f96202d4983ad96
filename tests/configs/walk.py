"""Trains and tests a config of the tree briefly, on the toy data of its benchmark."""

import json
import math
from collections.abc import Callable
from pathlib import Path

from mmengine.registry import DATASETS

from reprefine.engine.launch import load_config
from tests.configs.brief import ROOT, brief_options, data_roots
from tests.helpers.run import run_test, run_train

CONFIGS = sorted(path for path in (ROOT / 'configs').rglob('*.py') if '_base_' not in path.parts)


def configs_below(*folders: str) -> list[Path]:
    """Return the configs in the given folders of ``configs``."""
    return [path for path in CONFIGS if any(path.is_relative_to(ROOT / 'configs' / folder) for folder in folders)]


def one_ranking(path: Path, data_root: str) -> list[int]:
    """Return a query, a gallery image that matches it, and one that does not."""
    dataset = DATASETS.build(load_config(str(path), None, data_root).test_dataloader.dataset)
    samples = [dataset.get_data_info(index) for index in range(len(dataset))]
    query = samples[0]
    gallery = [sample for sample in samples if sample['role'] == 'gallery']
    match = next(s for s in gallery if s['pid'] == query['pid'] and s['camera'] != query['camera'])
    other = next(s for s in gallery if s['pid'] != query['pid'])
    return [samples.index(sample) for sample in (query, match, other)]


def train_and_test(path: Path, work_dir: Path, toy_folder: Callable[[list[str]], Path]) -> None:
    """Train for two iterations, test on two batches and require that every metric is a finite number."""
    cfg = load_config(str(path))
    roots = data_roots(cfg)
    where = ['--data-root', str(toy_folder(roots))] if roots else []
    options = brief_options(cfg)
    if 'reid' in path.parts:
        options += [f'{name}_dataloader.dataset.indices={one_ranking(path, where[1])}' for name in ('val', 'test')]
    brief = ['--work-dir', str(work_dir), *where, '--cfg-options', *options]
    assert run_train(str(path), *brief) == 0
    if not cfg.get('test_dataloader'):
        return
    (checkpoint,) = [file for file in work_dir.glob('*.pth') if file.stem in ('epoch_1', 'iter_2')]
    metrics = work_dir / 'metrics.json'
    assert run_test(str(path), str(checkpoint), '--out', str(metrics), *brief) == 0
    values = json.loads(metrics.read_text())
    assert values
    assert all(math.isfinite(value) for value in values.values()), values
