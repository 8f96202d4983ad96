"""Configs written without formatting."""

from typing import Any

from mmengine.config import config
from yapf.yapflib import yapf_api


def skip_config_formatting() -> None:
    """Let mmengine write configs unformatted, as yapf would take a tenth of a run."""
    yapf_api.FormatCode = _unformatted  # which the forks import for each call
    if hasattr(config, 'FormatCode'):
        config.FormatCode = _unformatted


def _unformatted(text: str, **kwargs: Any) -> tuple[str, bool]:
    return text, True
