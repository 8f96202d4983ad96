"""The end-to-end experiment of RepFusion: options of the pre-trainings, their evaluation, the teacher's probe."""

import json

import pytest
import torch

from reprefine.engine.cli.launch import load_config
from tests.helpers.run_tool import import_beside, run_tool
from tests.methods.repfusion.tiny import tiny_teacher_folder

TOOL = 'experiments/repfusion.py'
experiment, records = import_beside(TOOL, 'repfusion'), import_beside(TOOL, 'records')
students = import_beside(TOOL, 'repfusion_students')
SMALL = {'train_dataloader.dataset.per_class': 8, 'train_dataloader.batch_size': 16}
LAYERS = {'model.teacher.layers': [['mid_block.resnets.1.conv2', 16]]}


def test_the_teacher_is_trained_before_it_is_evaluated(tmp_path):
    train, probe = experiment.teacher_jobs(tmp_path)
    assert probe.after == (train.name,)
    cfg = load_config(train.command[1])
    assert train.product.name == f'epoch_{cfg.train_cfg.max_epochs}.pth'
    assert probe.command[1] == str(train.product.parent)


def config_of(start):
    options = experiment.pretrain_options(start, 3, 'teacher', 450)
    name = experiment.DISTILL.format(dict(best='fixed', random='uniform').get(start, start))
    return load_config(str(experiment.config_file(experiment.MOCO if start == 'moco' else name)), options)


def test_starts_differ_in_what_their_names_say():
    assert config_of('best').model.timestep_source == dict(type='reprefine.FixedTimesteps', timestep=450)
    assert config_of('best').model.eval_timesteps == [450]
    assert config_of('uniform').model.timestep_source == dict(type='reprefine.UniformTimesteps', seed=3)
    assert config_of('rl').custom_hooks[-1].seed == 3
    moco = config_of('moco')
    assert moco.train_cfg.max_epochs == moco.param_scheduler[0].end == experiment.MOCO_EPOCHS
    for start in ('best', 'uniform', 'rl'):
        cfg = config_of(start)
        assert cfg.randomness.seed == 3 and cfg.model.teacher.source == 'teacher'
        assert cfg.train_cfg == config_of('uniform').train_cfg


@pytest.mark.parametrize('start', ['random', 'moco', 'rl'])
def test_a_start_is_evaluated_with_each_fraction_of_the_labels(start, tmp_path, monkeypatch):
    short = [fraction._replace(per_class=2, epochs=1) for fraction in experiment.FRACTIONS]
    monkeypatch.setattr(experiment, 'FRACTIONS', short)
    options = experiment.pretrain_options(start, 0, tiny_teacher_folder(), 0)
    options |= {**SMALL, 'train_cfg.max_epochs': 1, **({} if start == 'moco' else LAYERS)}
    options |= {} if start == 'moco' else {'train_cfg.val_interval': 1}
    values = experiment.evaluate_start(start, options, 0, str(tmp_path))
    expected = {'cpu_seconds', 'linear', 'labels1', 'labels10', 'all'} | (
        {'r2', 'r2_curve'} if start == 'rl' else set()
    )
    assert values.keys() == expected
    assert all(0 <= values[name] <= 100 for name in ('linear', 'labels1', 'labels10', 'all'))


def test_the_record_compares_each_start_with_random_weights(tmp_path):
    value = dict(linear=50.0, labels1=60.0, labels10=70.0, all=80.0, cpu_seconds=30.0, seconds=60.0)
    distilled = dict(r2=0.5, r2_curve=[0.4, 0.5])
    values = {
        f'{start}_seed{seed}': value | (distilled if start in ('best', 'uniform', 'rl') else {})
        for start in experiment.STARTS
        for seed in (0, 1)
    }
    probe = dict(best=50, by_timestep={'50': 90.0}, by_epoch={'60': 90.0})
    records.save_record(tmp_path / 'record.json', experiment.make_record(values, probe, [0, 1]))
    record = records.read_record(tmp_path / 'record.json')
    assert [row.control for row in record.rows] == [None] + ['random weights'] * 4
    assert record.notes['best'] == 50 and record.notes['r2_of_the_first_seed']['rl'] == [0.4, 0.5]
    assert record.minutes == 10


def test_the_probe_evaluates_timesteps_and_checkpoints(tmp_path, monkeypatch):
    """The weights of the last checkpoint are those of the saved teacher: both evaluations agree."""
    from reprefine.methods.repfusion import DiffusionTeacher

    monkeypatch.setattr(students.SmallDigits, 'load_data_list', _few(students.SmallDigits.load_data_list))
    (tmp_path / 'teacher').symlink_to(tiny_teacher_folder())
    unet = DiffusionTeacher(tiny_teacher_folder(), [['mid_block', None]]).unet
    weights = {f'unet.{key}': value for key, value in unet.state_dict().items()}
    torch.save(dict(state_dict=weights), tmp_path / 'epoch_10.pth')
    torch.save(dict(state_dict={key: value * 0 for key, value in weights.items()}), tmp_path / 'epoch_5.pth')
    assert run_tool('experiments/repfusion_probe.py', tmp_path, tmp_path / 'probe.json', '--interval', 500) == 0
    found = json.loads((tmp_path / 'probe.json').read_text())
    assert list(found['by_timestep']) == ['0', '500'] and list(found['by_epoch']) == ['5', '10']
    best = found['by_timestep'][str(found['best'])]
    assert best == max(found['by_timestep'].values()) == found['by_epoch']['10'] > found['by_epoch']['5']


def _few(load):
    return lambda self: load(self)[:: 10 if self.split == 'train' else 5]
