"""Ablations of feature transformation: each trains, and changes what its name says and nothing else."""

import pytest

from reprefine.engine.cli.launch import load_config
from tests.configs.brief import ROOT
from tests.configs.walk import configs_below, train_and_test

FOLDER = ROOT / 'configs/feature_transform'
IN100 = 'moco-v2-ft{}_resnet50_8xb32-coslr-200e_in100'
SMALL = 'moco-v2-ft{}_resnet14-narrow_60e_mnist5k'
ABLATIONS = configs_below('feature_transform/ablations')
# For each ablation the path of the value that differs, and the value.
CHANGES = {
    'pos-only': ('neg', None),
    'neg-only': ('pos', None),
    'element': ('pos.granularity', 'element'),
    'post-norm': ('post_norm', 'both'),
    'pos-alpha-0p2': ('pos.alpha', 0.2),
    'pos-alpha-0p5': ('pos.alpha', 0.5),
    'pos-alpha-1': ('pos.alpha', 1.0),
    'pos-alpha-5': ('pos.alpha', 5.0),
    'neg-alpha-0p2': ('neg.alpha', 0.2),
    'neg-alpha-0p5': ('neg.alpha', 0.5),
    'neg-alpha-1': ('neg.alpha', 1.0),
    'neg-alpha-2': ('neg.alpha', 2.0),
    'neg-alpha-5': ('neg.alpha', 5.0),
}
# For each ablation of the small run the values that differ.
SMALL_CHANGES = {
    'pos-only': {'neg': None},
    'neg-only': {'pos': None},
    'alpha-0p2': {'pos.alpha': 0.2, 'neg.alpha': 0.2},
    'start-epoch-30': {},
}


@pytest.mark.parametrize('path', ABLATIONS, ids=lambda path: path.stem)
def test_trains_and_tests(path, tmp_path, toy_folder):
    train_and_test(path, tmp_path, toy_folder)


def flat(node: dict, path: str = '') -> dict:
    """Return the leaves of nested dicts by dotted path."""
    found = {}
    for key, value in node.items():
        found |= flat(value, f'{path}{key}.') if isinstance(value, dict) else {path + key: value}
    return found


@pytest.mark.parametrize(('name', 'change'), CHANGES.items(), ids=CHANGES)
def test_one_value_of_the_transform_differs(name, change):
    key, value = change
    cfg = load_config(str(FOLDER / 'ablations' / f'{IN100.format("-" + name)}.py')).to_dict()
    base = load_config(str(FOLDER / 'selfsup' / f'{IN100.format("")}.py')).to_dict()
    expected = base['model']['feature_transform']
    *above, last = key.split('.')
    for step in above:
        expected = expected[step]
    assert expected[last] != value
    expected[last] = value
    if name == 'element':
        base['model']['feature_transform']['neg']['granularity'] = 'element'
    assert flat(cfg['model']) == flat(base['model'])
    assert {k: v for k, v in cfg.items() if k != 'model'} == {k: v for k, v in base.items() if k != 'model'} | {
        key: cfg[key] for key in ('work_dir', 'filename') if key in cfg
    }


@pytest.mark.parametrize('epoch', [50, 100])
def test_transform_starts_late(epoch):
    cfg = load_config(str(FOLDER / 'ablations' / f'{IN100.format(f"-start-epoch-{epoch}")}.py'))
    base = load_config(str(FOLDER / 'selfsup' / f'{IN100.format("")}.py'))
    assert cfg.model == base.model
    assert cfg.custom_hooks == [*base.custom_hooks, dict(type='reprefine.FTScheduleHook', start_epoch=epoch)]


@pytest.mark.parametrize(('name', 'changes'), SMALL_CHANGES.items(), ids=SMALL_CHANGES)
def test_small_run_differs_by_what_its_name_says(name, changes):
    cfg = load_config(str(FOLDER / 'ablations' / f'{SMALL.format("-" + name)}.py')).to_dict()
    base = load_config(str(FOLDER / 'selfsup' / f'{SMALL.format("")}.py')).to_dict()
    expected = base['model']['feature_transform']
    for key, value in changes.items():
        side, _, last = key.rpartition('.')
        (expected[side] if side else expected)[last] = value
    if name == 'start-epoch-30':
        base['custom_hooks'].append(dict(type='reprefine.FTScheduleHook', start_epoch=30))
    for key in ('work_dir', 'filename'):
        base.pop(key, None), cfg.pop(key, None)
    assert cfg == base


def test_every_ablation_is_evaluated():
    evaluated = {IN100.format(f'-{name}') for name in (*CHANGES, 'start-epoch-50', 'start-epoch-100')}
    assert {path.stem for path in ABLATIONS} == evaluated | {SMALL.format(f'-{name}') for name in SMALL_CHANGES}
