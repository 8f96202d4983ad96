import pytest

from tests.configs.walk import configs_below, train_and_test
from tests.methods.denoiserep.walk import denoised_layers


@pytest.mark.parametrize('path', configs_below('denoiserep/segmentation'), ids=lambda path: path.stem)
def test_trains_and_tests(path, tmp_path, toy_folder):
    train_and_test(path, tmp_path, toy_folder)


@pytest.mark.parametrize(
    ('name', 'count'),
    [
        ('fcn_r50-d8_denoiserep-80k_ade20k-512x512', 55),
        ('segformer_mit-b0_denoiserep-80k_ade20k-512x512', 24),
        ('swin-tiny-patch4-window7-in1k-pre_upernet_denoiserep-80k_ade20k-512x512', 24),
    ],
)
def test_number_of_denoised_layers(name, count):
    assert len(denoised_layers('segmentation', name)) == count
