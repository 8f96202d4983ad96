"""Checking the checkpoints that parts of a model start from, which mmengine loads without saying what did not fit."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

from mmengine.dist import all_gather_object, get_world_size
from mmengine.logging import print_log
from mmengine.model import PretrainedInit, update_init_info
from mmengine.registry import WEIGHT_INITIALIZERS
from torch import nn

from ..errors import UserError
from .checkpoint import read_checkpoint
from .weights import check_match, load_weights


class _Demand(NamedTuple):
    floor: float = 0.0
    added: frozenset[int] = frozenset()  # identities of the tensors that do not count


_demand: ContextVar[_Demand | None] = ContextVar('demand', default=None)


class CheckedPretrainedInit(PretrainedInit):
    """mmengine's ``Pretrained`` that says how much of a part its checkpoint fills.

    Without a ``prefix`` it also refuses a file that fills less than :func:`demand_floor` asks for; parts with one are
    checked by :func:`check_pretrained`. Modules that load and convert their checkpoints themselves do not come here.
    """

    def __call__(self, module: nn.Module) -> None:
        """Fill ``module``.

        Raises:
            UserError: If the file is missing, damaged, unsafe to load, or fills too little.
        """
        if self.prefix is not None:
            super().__call__(module)
            return
        demand = _demand.get() or _Demand()
        named = (*module.named_parameters(), *module.named_buffers())
        may_lack = {name for name, tensor in named if id(tensor) in demand.added}
        match = load_weights(module, read_checkpoint(self.checkpoint, self.map_location), may_lack=may_lack)
        level = logging.INFO if match.exact else logging.WARNING
        print_log(f'{type(module).__name__} starts from {self.checkpoint}: {match}', 'current', level)
        check_match(match, f'{self.checkpoint} (init_cfg of {type(module).__name__})', demand.floor)
        if hasattr(module, '_params_init_info'):
            update_init_info(module, init_info=self._get_init_info())


def register_initializer() -> None:
    """Let the ``init_cfg`` of every library's modules use :class:`CheckedPretrainedInit`."""
    WEIGHT_INITIALIZERS.register_module('Pretrained', force=True, module=CheckedPretrainedInit)


@contextmanager
def demand_floor(model: nn.Module, floor: float) -> Iterator[None]:
    """Ask, while the weights of ``model`` are initialised, that checkpoints fill the parts that start from them.

    Args:
        model: The model; what it names as ``added_keys``, the additions of a refinement, does not count.
        floor: Share of each part.
    """
    added = getattr(model, 'added_keys', ())
    named = (*model.named_parameters(), *model.named_buffers())
    token = _demand.set(_Demand(floor, frozenset(id(tensor) for name, tensor in named if name in added)))
    try:
        yield
    finally:
        _demand.reset(token)


def check_pretrained(model: nn.Module, floor: float) -> None:
    """Refuse a model of which a part starts from another model's weights.

    Checked are the parts whose ``init_cfg`` is of type ``Pretrained`` and names a ``prefix``. Those without one may
    belong to modules that convert what they load; :class:`CheckedPretrainedInit` sees the others.

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
