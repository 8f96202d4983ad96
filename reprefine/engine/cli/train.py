"""Training from the command line.

Modules that need torch are imported inside functions, so that errors are found before torch is imported.
"""

import argparse
from pathlib import Path
from typing import Any

from mmengine.config import Config

from reprefine.engine.checkpoints.integrity import check_checkpoint_exists, find_latest_checkpoint, refuse_existing_run
from reprefine.engine.checkpoints.rename_keys import add_key_arguments, key_options
from reprefine.engine.config_check.values import check_values, require_settings
from reprefine.engine.data_checks.data_root import check_data_folders
from reprefine.engine.errors import UserError
from reprefine.engine.lock import is_first_process, lock_work_dir
from reprefine.engine.processes import shutdown_process_group

from .launch import (
    DATALOADERS,
    add_run_arguments,
    build_runner,
    config_from_args,
    get_work_dir,
    parse_config,
    write_owner,
)


def add_train_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``tools/train.py``."""
    add_run_arguments(parser)
    parser.add_argument(
        '--resume', nargs='?', const='auto', metavar='CKPT', help='continue from CKPT, or from the last checkpoint'
    )
    parser.add_argument(
        '--reset-schedule',
        action='store_true',
        help='resume with the optimiser settings and the schedule of the config where they are not those of CKPT',
    )
    add_key_arguments(parser)
    parser.add_argument('--no-validate', action='store_true', help='do not evaluate during training')
    parser.add_argument('--auto-scale-lr', action='store_true', help='scale the learning rate to the batch size')
    parser.add_argument('--no-persistent-workers', action='store_true', help='start new data loader workers each epoch')


def train(args: argparse.Namespace) -> None:
    """Train the model of the config.

    Args:
        args: The arguments of :func:`add_train_arguments`.

    Raises:
        UserError: If config, data, checkpoint or work dir are missing or invalid.
    """
    parsed = parse_config(args.config)
    start = _start_settings(parsed, args)
    cfg = config_from_args(args, parsed)
    from reprefine.engine.data_checks.unreadable import data_errors_as_user_error
    from reprefine.engine.resuming.interrupt import stop_on_signals

    require_settings(cfg, ('model', 'train_dataloader', 'train_cfg', 'optim_wrapper'), 'training')
    cfg.merge_from_dict(start)
    _set_key_options(cfg, args)
    _apply_flags(cfg, args)
    check_data_folders(cfg, DATALOADERS[:2])
    with data_errors_as_user_error(), lock_work_dir(cfg.work_dir), stop_on_signals(cfg.work_dir):
        if is_first_process():
            write_owner(cfg.work_dir, args.config)
        build_runner(cfg).train()
    shutdown_process_group()


def _start_settings(parsed: Config, args: argparse.Namespace) -> dict[str, Any]:
    """Return ``work_dir``, ``load_from`` and ``resume`` from config, options and arguments."""
    options = args.cfg_options or {}
    keys = ('work_dir', 'load_from', 'load_from_command')
    start = Config({key: options.get(key, parsed.get(key)) for key in keys})
    start.resume = options.get('resume', parsed.get('resume', False))
    check_values(start)
    start.work_dir = get_work_dir(args, start)
    _set_resume(start, args.resume)
    return start.to_dict()


def _set_resume(cfg: Config, resume: str | None) -> None:
    """Set the checkpoint that is resumed; without one, refuse a work dir that has checkpoints.

    ``--resume`` without a checkpoint starts the run from the config's ``load_from``.
    """
    if resume is None and cfg.get('resume'):
        resume = cfg.get('load_from') or 'auto'
    checkpoint = find_latest_checkpoint(cfg.work_dir) if resume == 'auto' else resume
    cfg.resume = checkpoint is not None
    if checkpoint is not None:
        cfg.load_from = checkpoint
        try:
            check_checkpoint_exists(checkpoint)
        except UserError as error:
            raise UserError(f'{error} (--resume): name another, or none to continue from the last one') from error
        return
    refuse_existing_run(cfg.work_dir)
    if cfg.get('load_from'):
        _check_load_from(cfg.load_from, cfg.get('load_from_command') or '')


def _check_load_from(checkpoint: str, command: str) -> None:
    """Refuse a missing ``load_from`` with the config (by its path) or the command that makes it."""
    try:
        check_checkpoint_exists(checkpoint)
    except UserError as error:
        parts = Path(checkpoint).parent.parts
        config = Path(f'{Path("configs", *parts[1:])}.py')
        hint = f'train it with tools/train.py {config}, or ' if parts[:1] == ('work_dirs',) and config.is_file() else ''
        if checkpoint in command:
            hint = f'make it with {command}, or '
        raise UserError(
            f'{error} (load_from): {hint}name another with --cfg-options load_from=FILE, or load_from=None for random '
            'weights'
        ) from error


def _set_key_options(cfg: Config, args: argparse.Namespace) -> None:
    """Replace the settings of the config for the weights of ``load_from`` by the arguments."""
    options = {name: value for name, value in key_options(args).items() if value}
    if options and (cfg.resume or not cfg.get('load_from')):
        raise UserError(
            '--checkpoint-key and --revise-keys are for load_from: set it with --cfg-options load_from=FILE'
        )
    cfg.update(options)


def _apply_flags(cfg: Config, args: argparse.Namespace) -> None:
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    if args.no_persistent_workers:
        for name in DATALOADERS:
            if cfg.get(name):
                cfg[name].persistent_workers = False
    if args.auto_scale_lr:
        if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
            raise UserError('--auto-scale-lr: the config names no auto_scale_lr.base_batch_size')
        cfg.auto_scale_lr.enable = True
    if args.reset_schedule:
        cfg.reset_schedule = True
    import torch

    from reprefine.engine.optim import use_amp

    on_gpu = torch.cuda.is_available()
    is_amp_config = cfg.optim_wrapper.get('type') == 'AmpOptimWrapper'
    if not on_gpu and (args.amp or is_amp_config):
        print(f'{"AmpOptimWrapper" if is_amp_config else "--amp"}: there is no GPU, autocast to bfloat16 on the CPU')
    if args.amp or (is_amp_config and not on_gpu):
        use_amp(cfg.optim_wrapper, on_gpu)
