"""What a folded checkpoint records of the fold."""

from collections.abc import Mapping
from typing import Any

DEPLOYED_META = 'deployed'
# What earlier versions wrote, and the type of the layers that it stands for.
_FORMER = {'denoiserep_fused': 'DenoiseRep', 'pddr_deployed': 'PDConv'}


def deployed_layers(checkpoint: Mapping[str, Any]) -> dict[str, str]:
    """Return what was folded when a checkpoint was written: the types of the training form by the names of the layers.

    Args:
        checkpoint: Content of a file; one that was never folded gives nothing.
    """
    meta = checkpoint.get('meta')
    meta = meta if isinstance(meta, Mapping) else {}
    former = {key: kind for key, kind in _FORMER.items() if meta.get(key)}
    written = meta.get(DEPLOYED_META)
    return former | (dict(written) if isinstance(written, Mapping) else {})


def is_deployed(checkpoint: Mapping[str, Any], kind: str) -> bool:
    """Whether layers whose type began with ``kind`` were folded when a checkpoint was written.

    Args:
        checkpoint: Content of a file.
        kind: Beginning of the name of a type.
    """
    return any(found.startswith(kind) for found in deployed_layers(checkpoint).values())
