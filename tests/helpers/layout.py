"""Configs written without layout."""

from typing import Any

from mmengine.config import config
from yapf.yapflib import yapf_api


def leave_out_layout() -> None:
    """Let mmengine write the texts of configs as they are; yapf would spend a tenth of a run on their layout."""
    yapf_api.FormatCode = _as_it_is  # which the forks import for each call
    if hasattr(config, 'FormatCode'):
        config.FormatCode = _as_it_is


def _as_it_is(text: str, **kwargs: Any) -> tuple[str, bool]:
    return text, True
