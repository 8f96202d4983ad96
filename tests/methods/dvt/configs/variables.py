"""The variables that DVT's base of a backbone names, of which its leaves choose one; no run reads them themselves."""

from typing import Any

from mmengine.config import Config

from tests.configs.brief import ROOT

NAMES = set(Config.fromfile(ROOT / 'configs/dvt/_base_/vit-b-dinov2.py'))


def without_variables(cfg: Config) -> dict[str, Any]:
    """Return what a config says beside these variables, to compare it with that of its twin."""
    return {key: value for key, value in cfg._cfg_dict.items() if key not in NAMES}
