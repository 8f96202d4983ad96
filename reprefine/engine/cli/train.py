"""Training from the command line.

What needs torch is imported only when all that can be refused without it has been looked at.
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
    note_owner,
    parse_config,
    work_dir_of,
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
        UserError: If config, data, checkpoint or work dir are not fit for it.
    """
    parsed = parse_config(args.config)
    start = _start(parsed, args)
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
            note_owner(cfg.work_dir, args.config)
        build_runner(cfg).train()
    shutdown_process_group()


def _start(parsed: Config, args: argparse.Namespace) -> dict[str, Any]:
    """Return where the run works and what it starts from, as entries of the config."""
    options = args.cfg_options or {}
    keys = ('work_dir', 'load_from', 'load_from_command')
    start = Config({key: options.get(key, parsed.get(key)) for key in keys})
    start.resume = options.get('resume', parsed.get('resume', False))
    check_values(start)
    start.work_dir = work_dir_of(args, start)
    _set_resume(start, args.resume)
    return start.to_dict()


def _set_resume(cfg: Config, resume: str | None) -> None:
    """Decide which checkpoint the run starts from, and keep it from overwriting another run's.

    Without anything to resume from, ``--resume`` starts the run, and the config's ``load_from`` holds.
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
        _require_start(cfg.load_from, cfg.get('load_from_command') or '')


def _require_start(checkpoint: str, command: str) -> None:
    """Refuse a missing ``load_from`` and say how to make it: by a config, where its path tells, or by a command."""
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
    """Let the flags for the weights of ``load_from`` replace those of the config."""
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
    asked = cfg.optim_wrapper.get('type') == 'AmpOptimWrapper'
    if not on_gpu and (args.amp or asked):
        print(f'{"AmpOptimWrapper" if asked else "--amp"}: there is no GPU, so the forward pass runs in bfloat16')
    if args.amp or (asked and not on_gpu):
        use_amp(cfg.optim_wrapper, on_gpu)
