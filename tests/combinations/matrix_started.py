"""A task that starts from a backbone which another stage has trained."""

from pathlib import Path

import torch

from reprefine.engine.build import build_model

from .matrix_cell import Stages


def assert_starts_from(run: Stages, path: Path, stage: Path, prefix: str) -> None:
    """Require every weight of a config's backbone to be the one of the stage before it."""
    model = build_model(run.config(path, run.checkpoint(stage), is_first=False))
    model.init_weights()
    written = torch.load(run.checkpoint(stage), weights_only=True)['state_dict']
    backbone = model.backbone.state_dict()
    assert backbone
    for name, value in backbone.items():
        assert torch.equal(written[prefix + name], value), name
