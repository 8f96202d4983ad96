"""Start and end of runs with several processes. Importing this module does not import torch."""

import atexit
import gc
import os
import sys

from mmengine.config import Config

from reprefine.engine.errors import UserError


def set_up_processes(cfg: Config, launcher: str, local_rank: int = 0) -> None:
    """Prepare a run of several processes; without a GPU by a gloo group and a model wrapper without ``device_ids``.

    Args:
        cfg: The config, changed in place.
        launcher: ``'none'`` for a single process, ``'pytorch'``, ``'slurm'`` or ``'mpi'``.
        local_rank: Number of the process on its machine, if the launcher does not set ``LOCAL_RANK``.

    Raises:
        UserError: If there is no GPU and the launcher is not torchrun.
    """
    import torch

    cfg.launcher = launcher
    os.environ.setdefault('LOCAL_RANK', str(local_rank))
    if launcher == 'none' or torch.cuda.is_available():
        return
    if launcher != 'pytorch' or 'RANK' not in os.environ:
        raise UserError(
            f'--launcher {launcher}: processes without a GPU need torchrun: use tools/dist_train.sh or dist_test.sh'
        )
    # mmengine's launcher calls torch.cuda.set_device, unless a group exists.
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group('gloo')
    wrapper = dict(
        type='MMDistributedDataParallel',
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
    )
    # An explicit None: otherwise the Runner fills in the local rank.
    cfg.model_wrapper_cfg = {**wrapper, **(cfg.get('model_wrapper_cfg') or {}), 'device_ids': None}


def shutdown_process_group() -> None:
    """Destroy the process group, if there is one, before the interpreter shuts down."""
    import torch.distributed as dist

    if not dist.is_initialized():
        return
    gc.collect()  # the Runner, a reference cycle, holds the model wrapper, which keeps the group's threads alive
    dist.destroy_process_group()


def exit_process(code: int) -> None:
    """End the process with an exit code; under torchrun without shutting down the interpreter.

    A thread of the group that acquires the interpreter lock during the shutdown aborts the process, rarely, so that a
    finished run would fail.

    Args:
        code: 0 if all went well.
    """
    if 'TORCHELASTIC_RUN_ID' in os.environ:
        atexit._run_exitfuncs()  # loggers, event files, data loader workers
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
