"""A warning for modules that require pretrained weights and start from random ones.

Such a module has an attribute ``requires_pretrained``: the reason as a string, or None.
"""

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from mmengine.logging import print_log
from torch import nn

from reprefine.engine.config_check.walk import find_values


@contextmanager
def record_loaded_modules(model: nn.Module) -> Iterator[set[nn.Module]]:
    """Collect the modules of a model whose own tensors are in any state dict that is loaded within the block."""
    loaded: set[nn.Module] = set()

    def collect(module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
        if any(prefix + name in state_dict for name in (*module._parameters, *module._buffers)):
            loaded.add(module)

    with ExitStack() as stack:
        for module in model.modules():
            stack.callback(module.register_load_state_dict_pre_hook(collect).remove)
        yield loaded


def warn_random_init(model: nn.Module, loaded: set[nn.Module], model_cfg: Any = None) -> None:
    """Warn of each module that requires pretrained weights, if nothing was loaded into it or its children.

    Args:
        model: The model at the start of training, neither resumed nor loaded from ``load_from``.
        loaded: The modules that were loaded.
        model_cfg: Config of the model. With ``pretrained``, host libraries also load in constructors.
    """
    if any(find_values(model_cfg, 'pretrained')):
        return
    for name, module in model.named_modules():
        reason = getattr(module, 'requires_pretrained', None)
        if reason and not loaded.intersection(module.modules()):
            print_log(
                f'{type(module).__name__}{f" ({name})" if name else ""} starts from random weights, but {reason}: '
                "set load_from to a checkpoint, or the backbone's init_cfg to dict(type='Pretrained', checkpoint=…)",
                'current',
                logging.WARNING,
            )
