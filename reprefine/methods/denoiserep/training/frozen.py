"""Which modules must be in evaluation mode so that a frozen base model in training mode is one fixed function."""

import re
from functools import cache

from torch import nn

from ..conversion.select import forward_sources

# attention hands its flag to a function: `dropout_p=self.drop if self.training else 0`, `training=self.training`
_DROPS_BY_FUNCTION = re.compile(
    r'drop[^\n]*self\.training|self\.training[^\n]*drop|training=self\.training', re.IGNORECASE
)


def is_stochastic(module: nn.Module) -> bool:
    """Return whether a module in training mode would move statistics or draw random numbers.

    That is: norms and whatever else has a running mean, dropout of any kind, and modules that call a functional
    dropout. Everything else must stay in training mode, where some models return what only their loss needs.

    Args:
        module: A module; its children are not looked at.
    """
    return 'running_mean' in module._buffers or _draws(type(module))


@cache
def _draws(cls: type[nn.Module]) -> bool:
    has_name = 'drop' in cls.__name__.lower() or cls.__name__ == 'StochasticDepth'
    return has_name or any(_DROPS_BY_FUNCTION.search(source) for source in forward_sources(cls))
