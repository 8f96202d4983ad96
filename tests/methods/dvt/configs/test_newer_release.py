"""Configs of linear segmentation and depth with the denoiser of the newer release."""

import pytest

from tests.configs.walk import configs_below, train_and_test

NEWER = [path for path in configs_below('dvt/segmentation', 'dvt/depth') if '-50k' in path.stem]


@pytest.mark.parametrize('path', NEWER, ids=lambda path: path.stem)
def test_trains_and_tests(path, tmp_path, toy_folder):
    train_and_test(path, tmp_path, toy_folder)


def test_every_backbone_meets_every_benchmark():
    assert len(NEWER) == 7 * 3
