"""How configs of DVT are tried briefly."""

from collections.abc import Mapping
from typing import Any


def options(path: str, node: Mapping[str, Any]) -> dict[str, Any]:
    """Return a denoiser with random weights."""
    is_denoiser = node.get('type') == 'reprefine.DVTDenoiser' and node.get('checkpoint')
    return {f'{path}.checkpoint': None} if is_denoiser else {}
