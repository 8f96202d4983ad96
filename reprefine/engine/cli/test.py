"""Testing from the command line.

Modules that need torch are imported inside functions, so that errors are found before torch is imported.
"""

import argparse
import os
from copy import deepcopy
from inspect import signature

import mmengine
from mmengine.config import Config, ConfigDict
from mmengine.registry import HOOKS

from reprefine.engine.checkpoints.integrity import check_checkpoint_exists
from reprefine.engine.checkpoints.rename_keys import add_key_arguments, key_options
from reprefine.engine.config_check.deprecated import rename_deprecated_options
from reprefine.engine.config_check.values import require_settings
from reprefine.engine.data_checks.data_root import check_data_folders
from reprefine.engine.errors import UserError
from reprefine.engine.files import atomic_write
from reprefine.engine.processes import shutdown_process_group

from .launch import add_run_arguments, build_runner, config_from_args, get_work_dir, parse_config

PICKLES = ('.pkl', '.pickle')
# Defaults of the tools of the OpenMMLab libraries for a config without tta_model.
TTA_MODELS = {
    'mmpretrain': dict(type='AverageClsScoreTTA'),
    'mmdet': dict(type='DetTTAModel', tta_cfg=dict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=100)),
    'mmseg': dict(type='SegTTAModel'),
}


def add_test_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``tools/test.py``."""
    add_run_arguments(parser)
    parser.add_argument('checkpoint', nargs='?', help='checkpoint file; none if the config trains nothing')
    add_key_arguments(parser)
    parser.add_argument('--out', metavar='FILE', help='write the metrics (.json, .pkl) or the predictions (.pkl)')
    parser.add_argument('--out-item', choices=['metrics', 'pred'], help='content of --out (default: pred for a .pkl)')
    parser.add_argument('--dump', metavar='FILE.pkl', help='write the predictions for offline evaluation')
    parser.add_argument('--show', action='store_true', help='show the predictions in a window')
    parser.add_argument('--show-dir', metavar='DIR', help='write images of the predictions')
    parser.add_argument('--interval', type=int, default=1, help='draw every N-th sample')
    parser.add_argument('--wait-time', type=float, default=2, help='seconds that a window is shown')
    parser.add_argument('--tta', action='store_true', help="test-time augmentation: the config's own, or a flip")


def test(args: argparse.Namespace) -> dict[str, float]:
    """Evaluate a checkpoint on the test set of the config.

    A config without ``train_dataloader`` needs no checkpoint: the modules of its model then load their pretrained
    weights (``pretrained``, ``checkpoint``, ``init_cfg``), as at the start of training.

    Args:
        args: The arguments of :func:`add_test_arguments`.

    Returns:
        The metrics.

    Raises:
        UserError: If config, data, checkpoint or output files are missing or invalid.
    """
    predictions, metrics_file = _output_files(args)
    if args.checkpoint:
        check_checkpoint_exists(args.checkpoint)
    parsed = parse_config(args.config)
    if not args.checkpoint and parsed.get('train_dataloader'):
        raise UserError(f'config {args.config} trains a model: name the checkpoint to test after the config')
    get_work_dir(args, parsed)
    args.cfg_options = rename_deprecated_options(parsed, args.cfg_options or {})
    cfg = config_from_args(args, parsed)
    from mmengine.dist import is_main_process
    from mmengine.evaluator import DumpResults

    from reprefine.engine.data_checks.unreadable import data_errors_as_user_error

    require_settings(cfg, ('model', 'test_dataloader', 'test_cfg', 'test_evaluator'), 'testing')
    cfg.load_from, cfg.resume = args.checkpoint, False
    # min_load_ratio of the config is for the start of training; a test needs all weights.
    options = {name.removeprefix('+'): value for name, value in args.cfg_options.items()}
    cfg.min_load_ratio = options.get('min_load_ratio', 1.0)
    cfg.update(key_options(args))
    check_data_folders(cfg, ['test_dataloader'])
    if args.amp:
        cfg.test_cfg.fp16 = True
    if args.show or args.show_dir:
        draw_predictions(cfg, args.show, args.show_dir, args.interval, args.wait_time)
    if args.tta:
        if (args.show or args.show_dir) and cfg.get('default_scope') == 'mmpretrain':
            raise UserError('--tta: mmpretrain cannot draw an image of several views; leave --show and --show-dir out')
        use_tta(cfg)
    with data_errors_as_user_error(), atomic_write(predictions) as partial:
        runner = build_runner(cfg)
        if not args.checkpoint:
            runner._init_model_weights()
        if partial:
            runner.test_evaluator.metrics.append(DumpResults(partial))
        metrics = runner.test()
    with atomic_write(metrics_file) as partial:
        if partial and is_main_process():
            mmengine.dump(metrics, partial)
    shutdown_process_group()
    return metrics


def _output_files(args: argparse.Namespace) -> tuple[str | None, str | None]:
    """Return the files for the predictions and for the metrics."""
    if args.out_item and not args.out:
        raise UserError('--out-item is the content of --out: give --out FILE')
    item = args.out_item or ('pred' if args.out and args.out.endswith(PICKLES) else 'metrics')
    metrics = args.out if item == 'metrics' else None
    if metrics and not metrics.endswith(('.json', *PICKLES)):
        raise UserError(f'--out {metrics}: metrics go into a .json or .pkl file')
    predictions = args.dump or (args.out if item == 'pred' else None)
    if args.dump and args.out and item == 'pred':
        raise UserError('--out and --dump would both contain predictions: add --out-item metrics')
    if predictions and not predictions.endswith(PICKLES):
        raise UserError(f'{predictions}: predictions go into a .pkl file')
    return predictions, metrics


def draw_predictions(cfg: Config, show: bool, show_dir: str | None, interval: int, wait_time: float) -> None:
    """Enable the visualization hook, whose arguments have other names in each library.

    Args:
        cfg: The config, changed in place.
        show: Whether to open a window.
        show_dir: Folder for the images.
        interval: Every how many samples one is drawn.
        wait_time: Seconds that a window is shown.

    Raises:
        UserError: If the config has no such hook, or the interval is not positive.
    """
    if interval < 1:
        raise UserError(f'--interval: must be at least 1, not {interval}')
    hook = cfg.get('default_hooks', {}).get('visualization')
    if hook is None:
        raise UserError('--show and --show-dir need default_hooks.visualization in the config')
    with HOOKS.switch_scope_and_registry(None) as registry:
        known = signature(registry.get(hook['type'])).parameters
    folder = show_dir and os.path.abspath(show_dir)
    options = dict(enable=True, draw=True, out_dir=folder, test_out_dir=folder)
    hook.update({key: value for key, value in options.items() if key in known and value is not None})
    hook.update(show=show, interval=interval, wait_time=wait_time)
    if folder and not {'out_dir', 'test_out_dir'} & set(known):
        cfg.visualizer.save_dir = folder


def use_tta(cfg: Config) -> None:
    """Wrap the model for test-time augmentation; a config without its own gets a horizontal flip.

    Args:
        cfg: The config, changed in place.

    Raises:
        UserError: If neither the config nor its library has a TTA model.
    """
    tta_model = cfg.get('tta_model') or TTA_MODELS.get(cfg.get('default_scope'))
    if tta_model is None:
        raise UserError(f'--tta: the config has no tta_model, and there is no default for {cfg.get("default_scope")}')
    dataset = cfg.test_dataloader.dataset
    while 'dataset' in dataset:
        dataset = dataset.dataset
    dataset.pipeline = cfg.get('tta_pipeline') or _flip_pipeline(dataset.pipeline)
    cfg.model = ConfigDict(**deepcopy(tta_model), module=cfg.model)


def _flip_pipeline(pipeline: list[dict]) -> list[dict]:
    """Return the pipeline with a flipped and an unchanged view before packing."""
    *transforms, pack = deepcopy(pipeline)
    if 'meta_keys' in pack:
        pack['meta_keys'] = (*pack['meta_keys'], 'flip', 'flip_direction')
    flips = [dict(type='RandomFlip', prob=probability) for probability in (1.0, 0.0)]
    return [*transforms, dict(type='TestTimeAug', transforms=[flips, [pack]])]
