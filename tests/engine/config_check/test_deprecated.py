"""Deprecated names of a config: they work, with one warning that names the new one, and never beside it."""

import warnings

import pytest
from mmengine.config import Config
from mmengine.registry import HOOKS as ROOT_HOOKS
from mmengine.registry import init_default_scope

from reprefine import registry
from reprefine.engine.cli.launch import load_config
from reprefine.engine.config_check import deprecated
from reprefine.engine.config_check.check import check_config
from reprefine.engine.config_check.deprecated import (
    deprecated_arguments,
    get_renamed_arguments,
    get_renamed_types,
    rename_deprecated_keys,
    rename_deprecated_options,
)
from reprefine.engine.config_check.lookup import find_type
from reprefine.engine.config_check.options import merge_options
from reprefine.engine.config_check.signatures import accepted_arguments
from reprefine.engine.errors import UserError
from reprefine.engine.runner import Runner
from tests.helpers.run import DIGITS, SMALL, run_test, train_digits

WARNING = r"'load_floor' is deprecated and will be removed in the next release; use 'min_load_ratio'"
HALF = {'step': 'interval'}


class StepHook:
    """A registered class whose argument ``step`` has become ``interval``."""

    @deprecated_arguments(HALF)
    def __init__(self, interval: int = 1, **kwargs: int) -> None:
        self.interval, self.begin = interval, _take(**kwargs)


def _take(begin: int = 0) -> int:
    return begin


@pytest.fixture
def renamed_hook(monkeypatch):
    """Register ``StepHook``, once named ``OldStepHook``."""
    monkeypatch.setitem(get_renamed_arguments(), 'StepHook', HALF)
    monkeypatch.setitem(get_renamed_types(), 'OldStepHook', 'StepHook')
    monkeypatch.setitem(registry.HOOKS._module_dict, 'StepHook', StepHook)


def test_a_config_with_a_deprecated_key_is_loaded_with_one_warning(tmp_path):
    file = tmp_path / 'old.py'
    file.write_text(f"_base_ = '{DIGITS}'\nload_floor = 0.25\n")
    with pytest.warns(FutureWarning, match=WARNING) as record:
        cfg = load_config(str(file))
    assert cfg.min_load_ratio == 0.25
    assert 'load_floor' not in cfg
    assert len([warning for warning in record if 'load_floor' in str(warning.message)]) == 1


@pytest.mark.parametrize('key', ['load_floor', 'max_corrupt'])
def test_each_deprecated_setting_is_checked_like_the_new_one(key):
    with pytest.warns(FutureWarning, match=key), pytest.raises(UserError, match=f'{deprecated.SETTINGS[key]}: must be'):
        check_config(Config({key: 'x'}))


def test_a_deprecated_option_replaces_the_value_of_the_new_key(tmp_path):
    cfg = Config(dict(min_load_ratio=0.5))
    with pytest.warns(FutureWarning, match=f'--cfg-options: {WARNING}'):
        merge_options(cfg, {'load_floor': 0.25})
    assert cfg.to_dict() == dict(min_load_ratio=0.25)
    with pytest.warns(FutureWarning):
        assert rename_deprecated_options(cfg, {'+load_floor': 0.1}) == {'+min_load_ratio': 0.1}


def test_testing_takes_the_deprecated_option(tmp_path):
    assert train_digits(tmp_path) == 0
    wider = ('--cfg-options', 'model.backbone.arch.embed_dims=32', 'model.head.in_channels=32', '+load_floor=0.0')
    with pytest.warns(FutureWarning, match=r"'\+load_floor' is deprecated .* use '\+min_load_ratio'"):
        assert run_test(DIGITS, str(tmp_path / 'epoch_2.pth'), '--work-dir', str(tmp_path), *SMALL, *wider) == 0


def test_a_runner_that_is_built_without_our_tools_knows_the_new_key(tmp_path):
    cfg = load_config(DIGITS)
    cfg.work_dir, cfg.max_corrupt = str(tmp_path), 2
    with pytest.warns(FutureWarning, match='max_corrupt_samples'):
        assert Runner.from_cfg(cfg).cfg.max_corrupt_samples == 2


def test_both_names_are_refused(renamed_hook):
    both = r"'step' and 'interval' are both given; remove 'step', the deprecated name"
    with pytest.raises(UserError, match=f'^custom_hooks.0: {both}'):
        rename_deprecated_keys(Config(dict(custom_hooks=[dict(type='reprefine.StepHook', step=2, interval=3)])))
    with pytest.raises(UserError, match=f'StepHook: {both}'):
        StepHook(step=2, interval=3)
    with pytest.raises(UserError, match="'load_floor' and 'min_load_ratio' are both given"):
        rename_deprecated_options(Config(), {'load_floor': 0.1, 'min_load_ratio': 0.2})


@pytest.mark.parametrize('kind', ['reprefine.StepHook', StepHook])
def test_arguments_are_renamed_in_the_config_and_in_options(renamed_hook, kind):
    kind = kind if isinstance(kind, str) else type('StepHook', (kind,), {'__module__': 'reprefine.hooks'})
    cfg = Config(dict(custom_hooks=[dict(type=kind, step=2)]))
    with pytest.warns(FutureWarning, match="^custom_hooks.0: 'step' is deprecated .* use 'interval'"):
        check_config(cfg)
    assert cfg.custom_hooks[0].to_dict() == dict(type=kind, interval=2)
    with pytest.warns(FutureWarning, match="'custom_hooks.0.step' is deprecated .* use 'custom_hooks.0.interval'"):
        merge_options(cfg, {'custom_hooks.0.step': 5})
    assert cfg.custom_hooks[0].interval == 5


def test_types_of_other_libraries_of_the_same_name_are_left_alone(renamed_hook):
    cfg = Config(dict(custom_hooks=[dict(type='mmdet.StepHook', step=2), dict(type='mmdet.OldStepHook')]))
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        rename_deprecated_keys(cfg)
    assert cfg.to_dict() == dict(custom_hooks=[dict(type='mmdet.StepHook', step=2), dict(type='mmdet.OldStepHook')])


def test_construction_takes_the_deprecated_argument():
    with pytest.warns(FutureWarning, match="StepHook: 'step' is deprecated .* use 'interval'") as record:
        hook = StepHook(step=3, begin=4)
    assert (hook.interval, hook.begin, len(record)) == (3, 4, 1)
    assert accepted_arguments(StepHook) == {'interval', 'begin', 'step'}


def test_a_deprecated_type_is_the_new_one(renamed_hook):
    cfg = Config(dict(custom_hooks=[dict(type='reprefine.OldStepHook', step=2)]))
    with pytest.warns(FutureWarning, match="'reprefine.OldStepHook' is deprecated .* use 'reprefine.StepHook'"):
        check_config(cfg)
    assert cfg.custom_hooks[0].to_dict() == dict(type='reprefine.StepHook', interval=2)
    init_default_scope('mmengine')
    with pytest.warns(FutureWarning, match='OldStepHook'):
        assert ROOT_HOOKS.build(dict(type='reprefine.OldStepHook', interval=7)).interval == 7


@pytest.mark.parametrize('name', sorted(get_renamed_arguments()))
def test_each_class_of_the_table_takes_both_names(name):
    roots = [value.variable for value in vars(registry).values() if isinstance(value, registry.LazyRegistry)]
    cls = find_type(f'reprefine.{name}', roots, None, name)
    names = get_renamed_arguments()[name]
    assert accepted_arguments(cls) >= names.keys() | set(names.values())
