"""WFLW's test set and its six subsets of difficult faces, evaluated one after the other."""

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
        cfg_options: Changes of the config.
        data_root: Folder of WFLW; default that of the config.
        checkpoint_key: Entry of the checkpoint that holds the weights.
        revise_keys: Renamings of them, ``PATTERN=REPLACEMENT`` each.

    Returns:
        Metrics of each subset.

    Raises:
        UserError: If config or checkpoint are not fit for it, or annotation files are missing.
    """
    cfg = load_config(config, cfg_options, data_root)
    root = Path(cfg.test_dataloader.dataset.get('data_root') or '')
    if missing := [annotation_file(subset) for subset in SUBSETS if not (root / annotation_file(subset)).is_file()]:
        raise UserError(f'{root} lacks {", ".join(missing)}; give the folder of WFLW by --data-root')
    parser = argparse.ArgumentParser()
    add_test_arguments(parser)
    args = parser.parse_args([config, checkpoint])
    args.work_dir, args.data_root = work_dir, data_root
    args.checkpoint_key, args.revise_keys = checkpoint_key, revise_keys
    results = {}
    for subset in SUBSETS:
        # mmengine keeps loggers and visualizers by name: the runs of one process would share them.
        own = {'experiment_name': f'wflw_{subset}', 'visualizer.name': f'wflw_{subset}'}
        # Workers that outlive their run would be ended by the garbage collector, at the expense of the next run.
        own['test_dataloader.persistent_workers'] = False
        file = {'test_dataloader.dataset.ann_file': annotation_file(subset)}
        args.cfg_options = {**(cfg_options or {}), **own, **file}
        results[subset] = test(args)
    return results
