"""The toy datasets, each written once in a test session, and once more with a record of what was drawn."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from toy_data import SETS, make_toy_data


@pytest.fixture(scope='session')
def toy(tmp_path_factory) -> Callable[[str], Path]:
    """Return the folder of a set, which is made when it is first asked for."""
    out = tmp_path_factory.mktemp('toy')
    return lambda name: make_toy_data(out, [name])[0]


@pytest.fixture(scope='session')
def record(tmp_path_factory) -> Callable[[str, str], tuple[Path, list[Any]]]:
    """Write a set; return its folder and what a function of its module returned, call by call."""

    def make(name: str, function: str) -> tuple[Path, list[Any]]:
        module = importlib.import_module(f'toy_data.{SETS[name].module}')
        original, returned = getattr(module, function), []

        def recording(*args: Any) -> Any:
            returned.append(original(*args))
            return returned[-1]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, function, recording)
            return make_toy_data(tmp_path_factory.mktemp(name), [name])[0], returned

    return make
