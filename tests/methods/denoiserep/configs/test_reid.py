import pytest

from tests.configs.walk import configs_below, train_and_test
from tests.methods.denoiserep.walk import denoised_layers


@pytest.mark.parametrize('path', configs_below('denoiserep/reid'), ids=lambda path: path.stem)
def test_trains_and_tests(path, tmp_path, toy_folder):
    train_and_test(path, tmp_path, toy_folder)


@pytest.mark.parametrize(
    ('name', 'count'),
    [
        ('vit-small_denoiserep_msmt17-256x128', 24),
    ],
)
def test_number_of_denoised_layers(name, count):
    assert len(denoised_layers('reid', name)) == count
