"""How configs of DenoiseRep are tried briefly."""

from collections.abc import Mapping
from typing import Any

ONE_EPOCH_LOOPS = ('reprefine.DenoiseFitLoop',)


def options(path: str, node: Mapping[str, Any]) -> dict[str, Any]:
    """Return one iteration of each phase."""
    if node.get('type') != 'reprefine.DenoisePhaseHook':
        return {}
    return {f'{path}.by': 'iter', f'{path}.phase_length': 1}
