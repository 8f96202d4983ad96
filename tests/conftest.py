"""Set-up and fixtures of all tests."""

import gc
import random
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope

from reprefine.set_up import set_up
from tests.helpers import random_choices
from tests.helpers.formatting import skip_config_formatting
from tests.helpers.toy_folder import toy_folder

__all__ = ['toy_folder']  # a fixture
pytest.register_assert_rewrite('tests.combinations.checks')
skip_config_formatting()
set_up()  # as every tool does, so that tests are independent of each other


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what chooses the moments at which runs are stopped."""
    group = parser.getgroup('reprefine')
    group.addoption('--draw-seed', type=int, default=0, help='seed of the moments and signals that tests draw')
    group.addoption(
        '--every-moment',
        choices=['once', 'again'],
        help='instead of drawing, stop each run at every moment by every signal; again: the resumed runs, too',
    )


def pytest_configure(config: pytest.Config) -> None:
    """Hand the options to :mod:`tests.helpers.random_choices`."""
    random_choices.set_options(config.getoption('draw_seed'), config.getoption('every_moment'))


def pytest_report_header(config: pytest.Config) -> str:
    """Name the seed."""
    return f'draw seed: {config.getoption("draw_seed")}'


def seed_all() -> None:
    """Seed what a test may draw from without naming a generator."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope='module', autouse=True)
def freeze_imported_objects() -> None:
    """Exclude imported objects from the garbage collection that mmengine runs for every dataset."""
    seed_all()  # for fixtures of the module
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def seed_each_test() -> None:
    """Make every test independent of the random numbers of others."""
    seed_all()


@pytest.fixture(autouse=True)
def default_scope_is_restored() -> Iterator[None]:
    """Let no test depend on the default scope that another one has set: some functions of OpenMMLab keep it."""
    before = dict(DefaultScope._instance_dict)
    yield
    DefaultScope._instance_dict.clear()
    DefaultScope._instance_dict.update(before)
