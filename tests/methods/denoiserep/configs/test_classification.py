import pytest

from tests.configs.walk import configs_below, train_and_test
from tests.methods.denoiserep.walk import denoised_layers


@pytest.mark.parametrize('path', configs_below('denoiserep/classification'), ids=lambda path: path.stem)
def test_trains_and_tests(path, tmp_path, toy_folder):
    train_and_test(path, tmp_path, toy_folder)


@pytest.mark.parametrize(
    ('name', 'count'),
    [
        ('vit-p4_denoiserep_cifar10', 26),
        ('resnet50_denoiserep_8xb32_in1k', 53),
        ('swinv2-tiny-w8_denoiserep_2xb128_in1k-256px', 24),
    ],
)
def test_number_of_denoised_layers(name, count):
    assert len(denoised_layers('classification', name)) == count


def test_reference_timesteps_are_those_of_the_released_vit():
    layers = denoised_layers('classification', 'vit-p4_denoiserep-reference-timesteps_cifar10')
    assert [layer.timestep for layer in layers] == [26, *[26, 25, 26, 25] * 6, 26]
