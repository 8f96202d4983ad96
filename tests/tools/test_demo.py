"""What the demo runs, and what it says about the result."""

import argparse
import sys
from pathlib import Path

import pytest

from reprefine.engine.errors import UserError

DEMO = Path(__file__).parents[2] / 'tools' / 'demo'


@pytest.fixture(scope='module')
def demo():
    """The scripts of the demo, imported as they import each other."""
    sys.path.insert(0, str(DEMO))
    try:
        import report
        import run
        import variants

        yield argparse.Namespace(run=run, report=report, variants=variants)
    finally:
        sys.path.remove(str(DEMO))


def test_every_variant_starts_from_its_seeds_baseline_and_is_tested_with_the_baselines_config(demo, tmp_path):
    for variant in (
        demo.variants.BASELINE,
        demo.variants.CONTROL,
        demo.variants.DENOISEREP,
        *demo.variants.EXTRA.values(),
    ):
        train, test = demo.run.jobs_of(variant, 2, tmp_path, 'digits')
        is_baseline = variant.name == 'baseline'
        assert train.after == (() if is_baseline else ('train baseline, seed 2',))
        assert 'randomness.seed=2' in train.command
        assert (f'load_from={tmp_path}/baseline_seed2/epoch_30.pth' in train.command) is not is_baseline
        assert test.after == (train.name,)
        assert test.command[1].endswith('configs/baselines/classification/vit-tiny_digits.py')
        assert Path(test.command[2]).name.endswith('_deploy.pth') is variant.is_folded
        assert variant.config_file('digits').is_file()
        assert variant.config_file('mnist5k').is_file()


def test_control_and_denoiserep_have_the_same_budget(demo):
    from reprefine.engine.cli.launch import load_config

    control, refined = (
        load_config(str(variant.config_file('digits'))) for variant in (demo.variants.CONTROL, demo.variants.DENOISEREP)
    )
    assert control.train_cfg == refined.train_cfg
    assert control.param_scheduler == refined.param_scheduler
    assert control.optim_wrapper.optimizer == refined.optim_wrapper.optimizer
    assert control.train_cfg.max_epochs == demo.variants.CONTROL.epochs == demo.variants.DENOISEREP.epochs


@pytest.mark.parametrize(
    ('accuracy', 'control', 'says'),
    [
        ([90.0, 91.0], [91.0, 91.0], 'did **not** beat'),
        ([90.0, 90.0], [90.0, 90.0], 'did **not** beat'),
        ([92.0, 90.0], [90.0, 91.0], '**within the spread**'),
        ([92.0, 92.5], [90.0, 90.0], 'beat the control by 2.25'),
        ([92.0], [90.0], '**One seed says little**'),
    ],
)
def test_verdict_follows_the_paired_differences(demo, accuracy, control, says):
    assert says in demo.report.verdict(accuracy, control)


def test_a_folder_of_somebody_else_is_left_alone(demo, tmp_path):
    (tmp_path / 'precious').touch()
    with pytest.raises(UserError, match='is not the folder of a demo'):
        demo.run.prepare(tmp_path, resume=False)
    assert (tmp_path / 'precious').exists()


def test_an_own_folder_is_emptied_unless_resumed(demo, tmp_path):
    out = tmp_path / 'demo'
    demo.run.prepare(out, resume=False)
    (out / 'result').touch()
    demo.run.prepare(out, resume=True)
    assert (out / 'result').exists()
    demo.run.prepare(out, resume=False)
    assert not (out / 'result').exists()
