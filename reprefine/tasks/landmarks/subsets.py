"""Evaluation on the test set of WFLW and on its six subsets."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reprefine.engine.cli.launch import load_config
from reprefine.engine.cli.test import add_test_arguments, test
from reprefine.engine.errors import UserError

SUBSETS = ('full', 'largepose', 'expression', 'illumination', 'makeup', 'occlusion', 'blur')


def annotation_file(subset: str) -> str:
    """Return the annotation file of a subset, relative to the data root."""
    return f'annotations/face_landmarks_wflw_test{"" if subset == "full" else f"_{subset}"}.json'


def evaluate_subsets(
    config: str,
    checkpoint: str,
    work_dir: str | None = None,
    cfg_options: dict[str, Any] | None = None,
    data_root: str | None = None,
    checkpoint_key: str | None = None,
    revise_keys: Sequence[str] = (),
) -> dict[str, dict[str, float]]:
    """Test a checkpoint on each of ``SUBSETS`` as ``tools/test.py`` does.

    Args:
        config: Config file.
        checkpoint: Checkpoint file.
        work_dir: Folder for the logs; default that of the config.
        cfg_options: Dotted keys and values that override the config.
        data_root: Folder of WFLW; default that of the config.
        checkpoint_key: Key of the state dict in the checkpoint.
        revise_keys: Renames of its keys, ``PATTERN=REPLACEMENT`` each.

    Returns:
        Metrics of each subset.

    Raises:
        UserError: If config or checkpoint cannot be used, or annotation files are missing.
    """
    cfg = load_config(config, cfg_options, data_root)
    root = Path(cfg.test_dataloader.dataset.get('data_root') or '')
    if missing := [annotation_file(subset) for subset in SUBSETS if not (root / annotation_file(subset)).is_file()]:
        raise UserError(f'{root} lacks {", ".join(missing)}; give the folder of WFLW with --data-root')
    parser = argparse.ArgumentParser()
    add_test_arguments(parser)
    args = parser.parse_args([config, checkpoint])
    args.work_dir, args.data_root = work_dir, data_root
    args.checkpoint_key, args.revise_keys = checkpoint_key, revise_keys
    results = {}
    for subset in SUBSETS:
        # mmengine stores loggers and visualizers by name: runs of one process would share them.
        options = {'experiment_name': f'wflw_{subset}', 'visualizer.name': f'wflw_{subset}'}
        # Persistent workers would be terminated by the garbage collector during the next run.
        options['test_dataloader.persistent_workers'] = False
        options['test_dataloader.dataset.ann_file'] = annotation_file(subset)
        args.cfg_options = {**(cfg_options or {}), **options}
        results[subset] = test(args)
    return results
