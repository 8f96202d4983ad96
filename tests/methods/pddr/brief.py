"""How configs of PDDR are tried briefly."""

from collections.abc import Mapping
from typing import Any

from reprefine.methods.pddr import backbone

CONVOLUTIONAL = ('reprefine.PDResNet',)


def options(path: str, node: Mapping[str, Any]) -> dict[str, Any]:
    """Return residual branches that begin at zero.

    With fixed statistics and no pretrained weights the sums of the branches would grow without bound.
    """
    return {f'{path}.zero_init_residual': True} if node.get('type') == 'reprefine.PDResNet' else {}


def clear_caches() -> None:
    """Forget the networks made from those of the host libraries."""
    backbone._resnet_class.cache_clear()
