import pytest

from tests.configs.walk import configs_below, train_and_test
from tests.methods.denoiserep.walk import denoised_layers


@pytest.mark.parametrize('path', configs_below('denoiserep/detection'), ids=lambda path: path.stem)
def test_trains_and_tests(path, tmp_path, toy_folder):
    train_and_test(path, tmp_path, toy_folder)


@pytest.mark.parametrize(
    ('name', 'count'),
    [
        ('mask-rcnn_swin-t-p4-w7_fpn_1x-denoiserep-12e_coco', 24),
    ],
)
def test_number_of_denoised_layers(name, count):
    assert len(denoised_layers('detection', name)) == count
