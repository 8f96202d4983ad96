import pytest
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

STATES = ('before_train', 'before_train_epoch', 'before_train_iter', 'after_train_iter', 'after_train_epoch')


def test_the_seed_hook_of_former_configs_builds_with_a_warning_and_has_no_effect():
    with pytest.warns(FutureWarning, match='EpochSeedHook. has no effect .*diff_rank_seed=True'):
        hook = HOOKS.build(dict(type='reprefine.EpochSeedHook'))
    assert all(getattr(type(hook), state) is getattr(Hook, state) for state in STATES)
