import pytest

from tests.configs.walk import configs_below
from tests.methods.denoiserep.walk import baseline_of


@pytest.mark.parametrize('path', configs_below('denoiserep'), ids=lambda path: path.stem)
def test_every_config_has_its_baseline(path):
    assert baseline_of(path).is_file()
