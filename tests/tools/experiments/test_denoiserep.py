"""The jobs of the DenoiseRep experiment, which `make demo` runs, and the conclusion of its report."""

import pytest

from reprefine.engine.cli.launch import load_config
from tests.helpers.run_tool import import_beside

TOOL = 'experiments/denoiserep.py'
denoiserep, variants = import_beside(TOOL, 'denoiserep'), import_beside(TOOL, 'denoiserep_variants')
VARIANTS = (variants.BASELINE, variants.CONTROL, variants.DENOISEREP, *variants.EXTRA.values())


@pytest.mark.parametrize('variant', VARIANTS, ids=lambda variant: variant.name)
def test_every_variant_starts_from_the_baseline_of_its_seed_and_is_tested_with_its_config(variant, tmp_path):
    train, test = denoiserep.make_jobs(variant, 2, tmp_path, 'digits')
    is_baseline = variant.name == 'baseline'
    assert train.after == (() if is_baseline else ('train baseline, seed 2',))
    assert train.command[train.command.index('--work-dir') + 1] == f'{tmp_path}/{variant.name}_seed2'
    assert 'randomness.seed=2' in train.command
    assert (f'load_from={tmp_path}/baseline_seed2/epoch_30.pth' in train.command) is not is_baseline
    assert test.after == (train.name,)
    assert test.command[1].endswith('configs/baselines/classification/vit-tiny_digits.py')
    assert test.command[2] == str(train.product)
    assert train.product.name.endswith('_deploy.pth') is variant.is_reparameterized
    assert test.product == tmp_path / f'{variant.name}_seed2/test.json'
    assert all(variant.config_file(dataset).is_file() for dataset in variants.DATASETS)


def test_control_and_denoiserep_have_the_same_budget():
    control, refined = (
        load_config(str(variant.config_file('digits'))) for variant in (variants.CONTROL, variants.DENOISEREP)
    )
    assert control.train_cfg == refined.train_cfg
    assert control.param_scheduler == refined.param_scheduler
    assert control.optim_wrapper.optimizer == refined.optim_wrapper.optimizer
    assert control.train_cfg.max_epochs == variants.CONTROL.epochs == variants.DENOISEREP.epochs


def test_the_control_in_the_same_phases_differs_by_the_step_alone():
    control, refined = (load_config(str(v.config_file('digits'))) for v in (variants.NO_STEP, variants.DENOISEREP))
    assert control.model.denoise.pop('step') == 'none'
    assert control.to_dict() == refined.to_dict()


def test_the_record_compares_with_the_control_in_the_same_phases(tmp_path):
    report, records = (import_beside(TOOL, name) for name in ('reports.denoiserep', 'records'))
    chosen = [variants.BASELINE, variants.NO_STEP, variants.DENOISEREP]
    for number, variant in enumerate(chosen):
        for seed in (0, 1):
            folder = variant.work_dir(tmp_path, seed)
            (folder / 'run/vis_data').mkdir(parents=True)
            (folder / 'run/vis_data/scalars.json').write_text('{"lr": 1, "time": 0.5, "epoch": 1, "step": 1}\n')
            (folder / 'test.json').write_text(f'{{"accuracy/top1": {90 + number + seed}}}')
    report.write_record(tmp_path / 'record.json', tmp_path, 'digits', chosen, [0, 1])
    record = records.read_record(tmp_path / 'record.json')
    assert [row.values['accuracy'] for row in record.rows] == [[90, 91], [91, 92], [92, 93]]
    control = variants.NO_STEP.label
    assert [row.control for row in record.rows] == [control, None, control]


def test_every_row_of_the_ablation_changes_a_setting_of_denoiserep():
    ablation = import_beside(TOOL, 'denoiserep_ablation')
    options = [variant.options for _, _, variant in ablation.ROWS]
    assert len(set(options)) == len(options) > 5
    assert len({variant.name for _, _, variant in ablation.ROWS}) == len(options)
    for _, _, variant in ablation.ROWS:
        pairs = (option.split('=') for option in variant.options)
        cfg = load_config(str(variant.config_file('digits')), dict(pairs))
        assert cfg.model.type == 'reprefine.DenoiseRep'


@pytest.mark.parametrize(
    ('accuracy', 'control', 'conclusion'),
    [
        ([90.0, 91.0], [91.0, 91.0], 'is **not better** than the control'),
        ([90.0, 90.0], [90.0, 90.0], 'is **not better** than the control'),
        ([92.0, 90.0], [90.0, 91.0], '**within the spread**'),
        ([92.0, 92.5], [90.0, 90.0], 'better than the control by 2.25'),
        ([92.0], [90.0], '**One seed**'),
    ],
)
def test_the_conclusion_follows_from_the_paired_differences(accuracy, control, conclusion):
    report = import_beside(TOOL, 'reports.denoiserep')
    assert conclusion in report.verdict(accuracy, control)
