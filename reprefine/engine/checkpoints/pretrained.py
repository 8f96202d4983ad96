"""Checks of the checkpoints in ``init_cfg``, which mmengine loads without reporting mismatches."""

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
from .method_keys import added_names, refuse_other_form
from .weights import check_match, load_weights

_min_ratio: ContextVar[float] = ContextVar('min_ratio', default=0.0)


class CheckedPretrainedInit(PretrainedInit):
    """mmengine's ``Pretrained`` that logs how much of a module its checkpoint loads.

    A file that loads less than :func:`require_load_ratio` requires is refused; what a method has added to the module
    does not count. Modules that load and convert their checkpoints themselves do not use this class.

    Args:
        checkpoint: Local path or URL.
        prefix: Prefix of the module's keys in the file, which is removed; None: all keys are the module's.
        map_location: As in :func:`torch.load`.
        checkpoint_key: Entry of the file that holds the weights, see :func:`.entries.select_weights`.
        revise_keys: Pairs of pattern and replacement for the keys of the file, applied before ``prefix``.
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
            UserError: If the file is missing, corrupted or unsafe to load, lacks entry or prefix, or loads too little.
        """
        content = read_checkpoint(self.checkpoint, self.map_location)
        checkpoint = select_weights(content, self.checkpoint, self.checkpoint_key, self.revise_keys)
        below = '' if self.prefix is None else f" ('{self.prefix}')"
        weights = checkpoint if self.prefix is None else self._below_prefix(checkpoint, module)
        match = load_weights(module, weights, allowed_missing=added_names(module))
        level = logging.INFO if match.exact else logging.WARNING
        print_log(f'{type(module).__name__} starts from {self.checkpoint}{below}: {match}', 'current', level)
        source = f'{self.checkpoint}{below} (init_cfg of {type(module).__name__})'
        check_match(match, source, _min_ratio.get(), module, content)
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
def require_load_ratio(min_ratio: float) -> Iterator[None]:
    """Require of checkpoints in ``init_cfg`` that they load enough of their module, while a model is initialised.

    Args:
        min_ratio: Fraction of the module's elements.
    """
    token = _min_ratio.set(min_ratio)
    try:
        yield
    finally:
        _min_ratio.reset(token)


@contextmanager
def refuse_other_forms(model: nn.Module) -> Iterator[None]:
    """Refuse checkpoints in ``init_cfg`` with layers in a form of a method, while a model is initialised.

    This includes modules of host libraries that load and convert their checkpoints themselves.

    Args:
        model: The model.

    Raises:
        UserError: When such a module loads its checkpoint.
    """

    def check(module: nn.Module, keys: Any) -> None:
        refuse_other_form(keys.unexpected_keys, f'{files[module]} (init_cfg of {type(module).__name__})')

    files = {module: init_cfg['checkpoint'] for module, init_cfg in _pretrained_modules(model)}
    with ExitStack() as stack:
        for module in files:
            stack.callback(module.register_load_state_dict_post_hook(check).remove)
        yield


def check_same_files(model: nn.Module) -> None:
    """Refuse, on all ranks, a local checkpoint in ``init_cfg`` that only some ranks can read.

    Host libraries load without synchronising: the ranks that succeed would wait forever for the one that fails.

    Args:
        model: The model, before its weights are initialised.

    Raises:
        UserError: With the message of the rank that fails.
    """
    if get_world_size() == 1:
        return
    files = {init_cfg['checkpoint'] for _, init_cfg in _pretrained_modules(model)}
    errors = {}
    for filename in sorted(files):
        try:
            if '://' not in filename:
                read_checkpoint(filename)
        except UserError as error:
            errors[filename] = str(error)
    for rank, own in enumerate(of_ranks := all_gather_object(errors)):
        for filename, message in own.items():
            if any(filename not in other for other in of_ranks):
                raise UserError(f'rank {rank}: {message}')


def _pretrained_modules(model: nn.Module) -> Iterator[tuple[nn.Module, dict[str, Any]]]:
    for module in model.modules():
        init_cfgs = getattr(module, 'init_cfg', None) or []
        for init_cfg in [init_cfgs] if isinstance(init_cfgs, dict) else init_cfgs:
            if init_cfg.get('type') == 'Pretrained' and init_cfg.get('checkpoint'):
                yield module, init_cfg
