"""Meta data of deployed checkpoints: which layers were reparameterised."""

from collections.abc import Mapping
from typing import Any

DEPLOYED_META = 'deployed'
# Keys that earlier versions wrote, and the type of layer that each means.
_FORMER_KEYS = {'denoiserep_fused': 'DenoiseRep', 'pddr_deployed': 'PDConv'}


def deployed_layers(checkpoint: Mapping[str, Any]) -> dict[str, str]:
    """Return the reparameterised layers of a checkpoint: the types of their training form by name.

    Args:
        checkpoint: Content of a file; empty for a checkpoint in training form.
    """
    meta = checkpoint.get('meta')
    meta = meta if isinstance(meta, Mapping) else {}
    former = {key: kind for key, kind in _FORMER_KEYS.items() if meta.get(key)}
    written = meta.get(DEPLOYED_META)
    return former | (dict(written) if isinstance(written, Mapping) else {})


def is_deployed(checkpoint: Mapping[str, Any], kind: str) -> bool:
    """Return whether a checkpoint holds the deployed form of layers of a type whose name starts with ``kind``.

    Args:
        checkpoint: Content of a file.
        kind: Prefix of the name of a type.
    """
    return any(found.startswith(kind) for found in deployed_layers(checkpoint).values())
