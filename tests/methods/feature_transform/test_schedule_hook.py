"""Epochs in which the transform is enabled, in real runs."""

import pytest
import torch
from torch.testing import assert_close

from reprefine.engine.errors import UserError
from reprefine.methods.feature_transform import FTScheduleHook

from .toys import MOCO, build, logged_losses, trained


def test_transform_starts_and_ends_with_its_epochs(tmp_path):
    baseline = logged_losses(trained(tmp_path / 'plain', model=build(MOCO)))
    late = logged_losses(trained(tmp_path / 'late', [dict(type='reprefine.FTScheduleHook', start_epoch=1)]))
    short = logged_losses(
        trained(tmp_path / 'short', [dict(type='reprefine.FTScheduleHook', start_epoch=1, end_epoch=2)])
    )
    assert_close(late[:3], baseline[:3], rtol=0, atol=1e-5)
    assert abs(late[3] - baseline[3]) > 1e-3
    assert late[:6] == short[:6]
    assert late[6] != short[6]


def test_schedule_holds_after_resuming(tmp_path):
    hook = dict(type='reprefine.FTScheduleHook', start_epoch=1)
    uninterrupted = trained(tmp_path / 'whole', [hook])
    trained(tmp_path / 'parts', [hook], train_cfg=dict(by_epoch=True, max_epochs=2))
    resumed = trained(tmp_path / 'parts', [hook], resume=True)
    assert resumed.model.feature_transform.enabled
    assert logged_losses(resumed)[-3:] == logged_losses(uninterrupted)[6:]
    for key, value in uninterrupted.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[key]), key


def test_schedule_without_an_epoch_or_a_transform_is_an_error(tmp_path):
    for bad in (dict(start_epoch=-1), dict(start_epoch=3, end_epoch=3)):
        with pytest.raises(UserError, match='no epoch has the transform'):
            FTScheduleHook(**bad)
    with pytest.raises(UserError, match='MoCo has no feature_transform; use reprefine.MoCoFT'):
        trained(tmp_path, [dict(type='reprefine.FTScheduleHook')], model=build(MOCO))
    with pytest.raises(UserError, match='counts epochs: set train_cfg.by_epoch=True'):
        trained(tmp_path, [dict(type='reprefine.FTScheduleHook')], train_cfg=dict(by_epoch=False, max_iters=2))
