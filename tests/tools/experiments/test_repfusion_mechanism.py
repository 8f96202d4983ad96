"""The teacher that is known to be useful, and the experiment that learns from it."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from tests.helpers.run_tool import import_beside

TOOL = 'experiments/repfusion_mechanism.py'
mechanism, oracle = import_beside(TOOL, 'repfusion_mechanism'), import_beside(TOOL, 'oracle_teacher')
students, records = import_beside(TOOL, 'repfusion_students'), import_beside(TOOL, 'records')
BY_KEY = mechanism.BY_KEY
SMALL = {'train_dataloader.dataset.per_class': 8, 'train_dataloader.batch_size': 16}


@pytest.fixture(scope='module')
def classifier(tmp_path_factory):
    """A checkpoint of an untrained classifier, whose features differ from those of the teacher with random weights."""
    file = tmp_path_factory.mktemp('classifier') / 'classifier.pth'
    runner = students.build_runner(mechanism.CLASSIFIER, {'randomness.seed': 9}, file.with_suffix(''))
    runner.model.init_weights()
    torch.save(dict(state_dict=runner.model.state_dict()), file)
    return file


def teacher_of(setting, classifier, seed=0):
    config = mechanism.teacher_config(setting, seed, str(classifier))
    return oracle.OracleTeacher(**{key: value for key, value in config.items() if key != 'type'})


def test_teacher_returns_the_classifiers_features_at_the_useful_timestep_alone(classifier):
    teacher = teacher_of(BY_KEY['on'], classifier)
    useful, images = mechanism.useful_timestep(0), students.load_split('val')[0][::150]
    inputs = teacher.prepare(images.float(), torch.zeros(3, 1, 1), torch.ones(3, 1, 1))
    (expected,) = teacher_of(BY_KEY['trained'], classifier)(inputs, torch.zeros(len(images), dtype=torch.long))
    timesteps = torch.full((len(images),), useful)
    assert_close(teacher(inputs, timesteps)[0], expected)
    timesteps[::2] = (useful + 1) % mechanism.TIMESTEPS
    (mixed,) = teacher(inputs, timesteps)
    assert_close(mixed[1::2], expected[1::2])
    of_images = torch.cdist(mixed.flatten(1), expected.flatten(1)).argmin(dim=1)
    assert (of_images[::2] != torch.arange(len(images))[::2]).any()
    assert teacher.num_timesteps == mechanism.TIMESTEPS and teacher.channels == [64]
    assert not torch.equal(teacher_of(BY_KEY['untrained'], classifier)(inputs, timesteps)[0], expected)


def test_a_policy_that_is_switched_off_equals_uniform_timesteps_exactly(classifier, tmp_path):
    weights = {}
    for kind, policy in (('rl', 'off'), ('uniform', None)):
        setting = replace(BY_KEY['off'], policy=policy)
        options = mechanism.distill_options(setting, 0, 1) | SMALL
        teacher = mechanism.teacher_config(setting, 0, str(classifier))
        runner = students.build_runner(mechanism.DISTILL.format(kind), options, tmp_path / str(policy), teacher)
        runner.train()
        weights[kind] = runner.model.state_dict()
    for name, weight in weights['uniform'].items():
        assert torch.equal(weight, weights['rl'][name]), name
    masses = mechanism.masses(tmp_path / 'off', mechanism.useful_timestep(0))
    assert 0 <= masses['mass'] == masses['masses'][-1] < 30


def test_a_part_returns_every_metric(classifier, tmp_path, monkeypatch):
    original = mechanism.distill_options
    monkeypatch.setattr(mechanism, 'distill_options', lambda *given: original(*given) | SMALL)
    values = {}
    for key in ('random', 'on'):
        (tmp_path / key).mkdir()
        values[key] = mechanism.evaluate_student(BY_KEY[key], 0, 1, str(classifier), str(tmp_path / key))
    assert values['random'].keys() == {'linear', 'finetuned'}
    assert values['on'].keys() == {'linear', 'finetuned', 'r2', 'mass', 'masses'}
    assert all(0 <= values['on'][name] <= 100 for name in ('linear', 'finetuned', 'mass'))
    assert values['on']['r2'] < 1


def test_the_record_compares_each_student_with_its_control(tmp_path):
    value = dict(linear=50.0, finetuned=60.0, r2=0.5, mass=90.0, masses=[5.0, 90.0], seconds=60.0)
    values = {f'{setting.key}_seed{seed}': value for setting in mechanism.SETTINGS for seed in (0, 1)}
    teachers = {f'classifier_seed{seed}': dict(accuracy=97.0, seconds=60.0) for seed in (0, 1)}
    record = mechanism.make_record(teachers, values, [0, 1])
    records.save_record(tmp_path / 'record.json', record)
    read = records.read_record(tmp_path / 'record.json')
    assert read.minutes == 12
    assert read.row('one useful t, policy').control == 'one useful t, policy switched off'
    assert read.notes['masses'] == {'seed 0': [5.0, 90.0], 'seed 1': [5.0, 90.0]}
    assert len({mechanism.useful_timestep(seed) for seed in range(5)}) > 2
