"""Properties of modules that are read off the source of their forward methods."""

import inspect
import re
from contextlib import suppress
from functools import cache

from torch import nn

# attention modules pass dropout to a function: `dropout_p=self.drop if self.training else 0`, `training=self.training`
_FUNCTIONAL_DROPOUT = re.compile(
    r'drop[^\n]*self\.training|self\.training[^\n]*drop|training=self\.training', re.IGNORECASE
)


@cache
def forward_sources(cls: type[nn.Module]) -> tuple[str, ...]:
    """Return the source texts of the methods of a module's class whose names contain ``forward``.

    Args:
        cls: Class of a module. Methods without source, such as compiled ones, are left out.
    """
    sources = []
    for owner in cls.__mro__[: cls.__mro__.index(nn.Module)]:
        for name, member in vars(owner).items():
            if inspect.isfunction(member) and 'forward' in name:
                with suppress(OSError, TypeError):
                    sources.append(inspect.getsource(member))
    return tuple(sources)


def reads_weight(parent: nn.Module, attribute: str) -> bool:
    """Return whether a forward method of ``parent`` reads ``self.<attribute>.weight`` instead of calling the child.

    Args:
        parent: Parent of a layer.
        attribute: Name of the layer in ``parent``.
    """
    pattern = rf'self\.{re.escape(attribute)}\.weight\b'
    return any(re.search(pattern, source) for source in forward_sources(type(parent)))


def is_stochastic(module: nn.Module) -> bool:
    """Return whether a module in training mode updates running statistics or draws random numbers.

    True for modules with a running mean, dropout of any kind, and modules that call a functional dropout. When the base
    model is frozen, these modules run in evaluation mode; all others stay in training mode, in which some models return
    what only their loss needs.

    Args:
        module: A module; its children are not considered.
    """
    return 'running_mean' in module._buffers or _has_dropout(type(module))


@cache
def _has_dropout(cls: type[nn.Module]) -> bool:
    is_dropout = 'drop' in cls.__name__.lower() or cls.__name__ == 'StochasticDepth'
    return is_dropout or any(_FUNCTIONAL_DROPOUT.search(source) for source in forward_sources(cls))
