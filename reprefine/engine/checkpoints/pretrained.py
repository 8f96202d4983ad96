"""Checking the checkpoints that parts of a model start from, which mmengine loads without saying what did not fit."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any

from mmengine.dist import all_gather_object, get_world_size
from mmengine.logging import print_log
from mmengine.model import PretrainedInit, update_init_info
from mmengine.registry import WEIGHT_INITIALIZERS
from torch import nn

from reprefine.engine.errors import UserError

from .checkpoint import read_checkpoint
from .entries import select_weights, suggest_keys
from .layer_forms import refuse_other_form
from .method_keys import added_names
from .weights import check_match, load_weights

_floor: ContextVar[float] = ContextVar('floor', default=0.0)


class CheckedPretrainedInit(PretrainedInit):
    """mmengine's ``Pretrained`` that says how much of a part its checkpoint loads.

    It refuses a file that loads less than :func:`require_load_ratio` asks for; what a method has added to the part does
    not count. Modules that load and convert their checkpoints themselves do not use it.

    Args:
        checkpoint: Local path or URL.
        prefix: Start of the names that belong to the part, which is dropped; None: all names do.
        map_location: As in :func:`torch.load`.
        checkpoint_key: Entry of the file that holds the weights, see :func:`.entries.select_weights`.
        revise_keys: Pairs of pattern and replacement for the names in the file, applied before ``prefix``.
    """

    def __init__(
        self,
        checkpoint: str,
        prefix: str | None = None,
        map_location: Any = 'cpu',
        checkpoint_key: str | None = None,
        revise_keys: Sequence[tuple[str, str]] = (),
    ) -> None:
        super().__init__(checkpoint, prefix, map_location)
        self.checkpoint_key, self.revise_keys = checkpoint_key, revise_keys

    def __call__(self, module: nn.Module) -> None:
        """Load the weights of ``module``.

        Raises:
            UserError: If the file is missing, damaged, unsafe to load, lacks the entry or prefix, or loads too little.
        """
        content = read_checkpoint(self.checkpoint, self.map_location)
        checkpoint = select_weights(content, self.checkpoint, self.checkpoint_key, self.revise_keys)
        below = '' if self.prefix is None else f" ('{self.prefix}')"
        weights = checkpoint if self.prefix is None else self._below_prefix(checkpoint, module)
        match = load_weights(module, weights, allowed_missing=added_names(module))
        level = logging.INFO if match.exact else logging.WARNING
        print_log(f'{type(module).__name__} starts from {self.checkpoint}{below}: {match}', 'current', level)
        source = f'{self.checkpoint}{below} (init_cfg of {type(module).__name__})'
        check_match(match, source, _floor.get(), module, content)
        if hasattr(module, '_params_init_info'):
            update_init_info(module, init_info=self._get_init_info())

    def _below_prefix(self, checkpoint: dict[str, Any], module: nn.Module) -> dict[str, Any]:
        prefix = self.prefix.rstrip('.') + '.'
        weights = checkpoint.get('state_dict', checkpoint)
        own = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
        if not own:
            begins = ', '.join(sorted({key.partition('.')[0] for key in weights}))
            raise UserError(
                f"checkpoint {self.checkpoint} holds nothing below '{prefix}'; its keys begin with {begins}"
                f'{suggest_keys(checkpoint, module, 0.0)}'
            )
        return own


def register_initializer() -> None:
    """Let the ``init_cfg`` of every library's modules use :class:`CheckedPretrainedInit`."""
    WEIGHT_INITIALIZERS.register_module('Pretrained', force=True, module=CheckedPretrainedInit)


@contextmanager
def require_load_ratio(floor: float) -> Iterator[None]:
    """Ask, while the weights of a model are initialised, that checkpoints load the parts that start from them.

    Args:
        floor: Share of each part.
    """
    token = _floor.set(floor)
    try:
        yield
    finally:
        _floor.reset(token)


@contextmanager
def refuse_other_forms(model: nn.Module) -> Iterator[None]:
    """Refuse, while the weights of ``model`` are initialised, checkpoints of parts with layers in a form of a method.

    This also reaches the modules of host libraries that load and convert their checkpoints themselves.

    Raises:
        UserError: Where such a part loads.
    """

    def check(part: nn.Module, keys: Any) -> None:
        refuse_other_form(keys.unexpected_keys, f'{names[part]} (init_cfg of {type(part).__name__})')

    names = {part: init_cfg['checkpoint'] for part, init_cfg in _parts(model)}
    with ExitStack() as stack:
        for part in names:
            stack.callback(part.register_load_state_dict_post_hook(check).remove)
        yield


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
