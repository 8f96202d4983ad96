"""Converts a training form of the tree and compares its predictions with those of the deploy config."""

import pickle
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from reprefine.engine.build import build_model
from reprefine.engine.cli.launch import load_config
from tests.configs.small_networks import small_networks
from tests.configs.walk import brief_arguments
from tests.helpers.run import run_test
from tests.helpers.run_tool import run_tool


def deploys(path: Path) -> bool:
    """Tell whether a config holds a converted model."""
    return path.parent.name == 'deploy'


def training_form(path: Path) -> Path:
    """Return the config that trains the model of a deploy config: of its name but for the training."""
    (config,) = path.parents[1].glob(f'{path.stem.replace("_deploy_", "_*_")}.py')
    return config


def assert_converts(path: Path, folder: Path, toy_folder: Callable[[list[str]], Path]) -> None:
    """Convert random weights of the training form, and require the predictions of both forms to agree."""
    with small_networks():
        _assert_converts(path, folder, toy_folder)


def _assert_converts(path: Path, folder: Path, toy_folder: Callable[[list[str]], Path]) -> None:
    train, trained, converted = training_form(path), folder / 'trained.pth', folder / 'converted.pth'
    torch.manual_seed(0)
    torch.save(dict(state_dict=randomised(build_model(load_config(str(train)))).state_dict()), trained)
    small = ('--shape', 96, 96)  # of the images to compare on; the predictions below are on those of the config
    assert run_tool('model_converters/reparameterize_model.py', train, trained, converted, *small) == 0
    expected = predictions(train, trained, folder / 'train', toy_folder)
    found = predictions(path, converted, folder / 'deploy', toy_folder)
    assert_close(found, expected)


def randomised(model: nn.Module) -> nn.Module:
    """Set random statistics of every norm, without which errors of the reparameterisation would not show."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(module.running_var, 0.5, 2)
            for tensor in (module.running_mean, module.bias):
                nn.init.normal_(tensor, std=0.1)
    return model


def predictions(path: Path, checkpoint: Path, work_dir: Path, toy_folder: Callable[[list[str]], Path]) -> Any:
    """Test a checkpoint and return what tools/test.py dumps."""
    dump = work_dir / 'predictions.pkl'
    brief = brief_arguments(path, toy_folder)
    assert run_test(str(path), str(checkpoint), '--work-dir', str(work_dir), '--dump', str(dump), *brief) == 0
    return pickle.loads(dump.read_bytes())  # written by this process


def assert_close(found: Any, expected: Any) -> None:
    """Compare nested containers; numbers may differ by rounding."""
    if isinstance(expected, Mapping):
        assert found.keys() == expected.keys()
        for key in expected:
            assert_close(found[key], expected[key])
    elif isinstance(expected, Sequence) and not isinstance(expected, str):
        assert len(found) == len(expected)
        for pair in zip(found, expected, strict=True):
            assert_close(*pair)
    elif isinstance(expected, torch.Tensor | np.ndarray | float):
        np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=1e-3, atol=1e-4)
