"""Checking the checkpoints that parts of a model start from, which mmengine loads without saying what did not fit."""

from collections.abc import Iterator
from typing import Any

from mmengine.dist import all_gather_object, get_world_size
from torch import nn

from .checkpoint import check_match, load_weights, read_checkpoint
from .errors import UserError


def check_pretrained(model: nn.Module, floor: float) -> None:
    """Refuse a model of which a part starts from another model's weights.

    Checked are the parts whose ``init_cfg`` is of type ``Pretrained`` and names a ``prefix``. Those without one belong
    to host libraries, some of which convert what they load.

    Args:
        model: The model, before its weights are initialised; the parts are filled.
        floor: Share of such a part that its checkpoint must fill.

    Raises:
        UserError: If a checkpoint is missing, has no such prefix, or fills less of its part.
    """
    for module, init_cfg in _parts(model):
        if not init_cfg.get('prefix'):
            continue
        filename, prefix = init_cfg['checkpoint'], init_cfg['prefix'].rstrip('.') + '.'
        checkpoint = read_checkpoint(filename)
        weights = checkpoint.get('state_dict', checkpoint)
        own = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
        if not own:
            begins = ', '.join(sorted({key.partition('.')[0] for key in weights}))
            raise UserError(f"checkpoint {filename} holds nothing below '{prefix}'; its keys begin with {begins}")
        check_match(load_weights(module, own), f"{filename} ('{prefix}')", floor)


def check_same_files(model: nn.Module) -> None:
    """Refuse, on all ranks, a local checkpoint of any part that some ranks can read and others cannot.

    Host libraries load them rank by rank; those that succeed would wait forever for the one that fails.

    Args:
        model: The model, before its weights are initialised.

    Raises:
        UserError: With what the failing rank says.
    """
    if get_world_size() == 1:
        return
    files = {init_cfg['checkpoint'] for _, init_cfg in _parts(model)}
    faults = {filename: fault for filename in sorted(files) if '://' not in filename and (fault := _fault(filename))}
    for rank, others in enumerate(of_ranks := all_gather_object(faults)):
        for filename, fault in others.items():
            if any(filename not in known for known in of_ranks):
                raise UserError(f'rank {rank}: {fault}')


def _fault(filename: str) -> str | None:
    try:
        read_checkpoint(filename)
    except UserError as error:
        return str(error)
    return None


def _parts(model: nn.Module) -> Iterator[tuple[nn.Module, dict[str, Any]]]:
    for module in model.modules():
        init_cfgs = getattr(module, 'init_cfg', None) or []
        for init_cfg in [init_cfgs] if isinstance(init_cfgs, dict) else init_cfgs:
            if init_cfg.get('type') == 'Pretrained' and init_cfg.get('checkpoint'):
                yield module, init_cfg
