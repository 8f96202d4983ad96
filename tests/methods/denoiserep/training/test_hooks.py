"""The hooks of phases and of reparameterisation inside real mmengine Runners (checks 9, 14, 15)."""

import copy

import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.runner import Runner, load_checkpoint
from torch.utils.data import DataLoader, Dataset

from reprefine.deploy import switch_to_deploy
from reprefine.deploy.checkpoint import reparameterize_file
from reprefine.deploy.compare import compare
from reprefine.deploy.examples import Example
from reprefine.engine.errors import UserError
from reprefine.engine.runner import Runner as OwnRunner
from reprefine.methods.denoiserep import (
    DenoisePhaseHook,
    denoise_layers,
    phase_at,
)
from reprefine.methods.denoiserep.conversion.converted import denoise_state

from ..toys import ToyClassifier, images, refined, snapshot

D, B = 'denoise', 'backbone'


@pytest.mark.parametrize(
    ('first_index', 'expected'),
    [(0, [D] * 10 + [B] * 10 + [D] * 10 + [B] * 10), (1, [D] * 9 + [B] * 10 + [D] * 10 + [B] * 10)],
)
def test_published_alternation(first_index, expected):
    """0-based: predictor in epochs 0-9, backbone 10-19. 1-based: predictor 1-9, backbone 10-19, predictor 20-29."""
    assert [phase_at(e, (D, B), 10, first_index) for e in range(len(expected))] == expected


@pytest.mark.parametrize('phases', [(D,), (D, B, 'joint'), (B, D)])
def test_phases_follow_the_given_cycle(phases):
    assert [phase_at(i, phases, 2) for i in range(12)] == [phases[(i // 2) % len(phases)] for i in range(12)]


class Samples(Dataset):
    def __init__(self, count=8, labelled=True):
        self.images, self.labelled = images(count), labelled

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return {'inputs': self.images[index]} | ({'labels': index % 5} if self.labelled else {})


class Recorder(Hook):
    """Records the phase of each iteration, the parameters that it changed, and the logged losses."""

    def __init__(self):
        self.phases, self.moved, self.logs = [], [], []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.before = {n: p.detach().clone() for n, p in runner.model.named_parameters()}
        self.phases.append((runner.epoch, runner.iter, denoise_state(runner.model).phase))

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.moved.append({n for n, p in runner.model.named_parameters() if not torch.equal(p, self.before[n])})
        self.logs.append(set(outputs))


class Fixed(BaseMetric):
    """A score that falls with every evaluation, so that the best checkpoint is the first."""

    calls = 0

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        Fixed.calls += 1
        return {'score': -float(Fixed.calls)}


def wrapped(seed=0, **options):
    return refined(seed=seed, include='mlp', **options)


def runner_of(work_dir, hooks, model=None, epochs=4, validate=False, samples=None, train_cfg=None, **options):
    optimizer = dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=0.1)
    loader = DataLoader(samples or Samples(), 4)
    if validate:
        options |= dict(val_dataloader=DataLoader(Samples(), 4), val_cfg={}, val_evaluator=[Fixed()])
    return Runner(
        model=model or wrapped(),
        work_dir=str(work_dir),
        train_dataloader=loader,
        train_cfg=train_cfg or dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(optimizer=optimizer),
        custom_hooks=hooks,
        default_hooks=dict(logger=None) | options.pop('default_hooks', {}),
        log_level='WARNING',
        experiment_name=f'{work_dir.name}_{len(list(work_dir.iterdir())) if work_dir.exists() else 0}_{id(hooks)}',
        **options,
    )


@pytest.mark.parametrize('first_index', [0, 1])
@pytest.mark.parametrize('by', ['epoch', 'iter'])
def test_hook_sets_the_phase_of_every_iteration(tmp_path, by, first_index):
    recorder = Recorder()
    hook = dict(type='reprefine.DenoisePhaseHook', phase_length=3, by=by, first_index=first_index)
    runner = runner_of(tmp_path, [hook, recorder], epochs=8)
    runner.train()
    assert len(recorder.phases) == 16
    parameters = dict(runner.model.named_parameters())
    own = {n for n in parameters if '.denoiser.' in n}
    for (epoch, iteration, phase), moved, log in zip(recorder.phases, recorder.moved, recorder.logs, strict=True):
        counter = epoch if by == 'epoch' else iteration
        assert phase == ((D, B)[(counter + first_index) // 3 % 2])
        assert moved == (own if phase == D else set(parameters) - own)
        assert ('loss_denoise' in log) == (phase == D)


class Logged(Hook):
    """Records the phase, and the noise losses in the log."""

    priority = 'VERY_LOW'

    def __init__(self):
        self.lines = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        line, _ = runner.log_processor.get_log_after_iter(runner, batch_idx, 'train')
        shown = {key for key in line if 'denoise' in key or key.startswith('noise/')}
        self.lines.append((denoise_state(runner.model).phase, shown))


@pytest.mark.parametrize('runner_class', [Runner, OwnRunner])
@pytest.mark.parametrize('by', ['epoch', 'iter'])
def test_a_phase_without_noise_loss_logs_none(tmp_path, by, runner_class, monkeypatch):
    monkeypatch.setitem(globals(), 'Runner', runner_class)
    logged = Logged()
    hook = dict(type='reprefine.DenoisePhaseHook', phase_length=2, by=by)
    runner_of(tmp_path, [hook, logged], wrapped(log_layers=True), epochs=4 if by == 'epoch' else 3).train()
    assert {phase for phase, _ in logged.lines} == {D, B}
    for phase, shown in logged.lines:
        assert len(shown) == (5 if phase == D else 0)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(phases=()), r'phases=\(\) names none: use one of denoise'),
        (dict(phases=('denoise', 'train')), "unknown phase 'train'"),
        (dict(phases='denoise'), "unknown phase 'd'"),
        (dict(first_index=2), 'first_index=2: use 0 or 1'),
    ],
)
def test_invalid_arguments_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        DenoisePhaseHook(**options)


@pytest.mark.parametrize('first_index', [0, 1])
@pytest.mark.parametrize('by', ['epoch', 'iter'])
@pytest.mark.parametrize('stop', [1, 2, 3, 5])
def test_resume_continues_in_the_same_phase(tmp_path, by, first_index, stop):
    hook = dict(type='reprefine.DenoisePhaseHook', phase_length=2, by=by, first_index=first_index)
    uninterrupted = Recorder()
    runner_of(tmp_path / 'whole', [hook, uninterrupted], epochs=6).train()
    first, second = Recorder(), Recorder()
    runner_of(tmp_path / 'parts', [hook, first], epochs=stop).train()
    resumed = runner_of(tmp_path / 'parts', [hook, second], wrapped(seed=4), epochs=6, resume=True)
    resumed.train()
    assert first.phases + second.phases == uninterrupted.phases
    assert first.moved + second.moved == uninterrupted.moved


def test_resume_in_an_iteration_based_run(tmp_path):
    hook, uninterrupted, second = (
        dict(type='reprefine.DenoisePhaseHook', phase_length=2, by='iter'),
        Recorder(),
        Recorder(),
    )
    checkpoint = dict(type='CheckpointHook', by_epoch=False, interval=3)
    options = dict(default_hooks=dict(checkpoint=checkpoint), samples=Samples(32))
    loop = dict(by_epoch=False, val_interval=100)
    runner_of(tmp_path / 'a', [hook, uninterrupted], train_cfg=loop | dict(max_iters=7), **options).train()
    runner_of(tmp_path / 'b', [hook], train_cfg=loop | dict(max_iters=3), **options).train()
    runner_of(tmp_path / 'b', [hook, second], train_cfg=loop | dict(max_iters=7), resume=True, **options).train()
    assert [p for _, _, p in uninterrupted.phases] == [D, D, B, B, D, D, B]
    assert second.phases == uninterrupted.phases[3:]


def test_resumed_weights_and_momentum_are_those_of_the_uninterrupted_run(tmp_path):
    """Over a phase change."""
    hooks = [dict(type='reprefine.DenoisePhaseHook', phase_length=1)]
    options = dict(randomness=dict(seed=0))
    uninterrupted = runner_of(tmp_path / 'a', hooks, wrapped(), epochs=4, **options)
    uninterrupted.train()
    runner_of(tmp_path / 'b', hooks, wrapped(), epochs=3, **options).train()
    resumed = runner_of(tmp_path / 'b', hooks, wrapped(seed=9), epochs=4, resume=True, **options)
    resumed.train()
    expected, state = snapshot(uninterrupted.model), snapshot(resumed.model)
    assert all(torch.equal(state[key], value) for key, value in expected.items())


def test_the_base_model_does_not_change_in_a_label_free_run_without_labels(tmp_path):
    recorder = Recorder()
    hook = dict(type='reprefine.DenoisePhaseHook', phase_length=1, phases=(D,))
    runner = runner_of(
        tmp_path, [hook, recorder], wrapped(label_free=True, loss_weight=1.0), samples=Samples(labelled=False)
    )
    before = snapshot(runner.model)
    runner.train()
    assert recorder.logs == [{'loss', 'loss_denoise'}] * 8
    changed = {k for k, v in snapshot(runner.model).items() if not torch.equal(v, before[k])}
    assert changed == {k for k in before if '.denoiser.' in k and k.endswith(('weight', 'bias'))}


def test_label_free_with_a_phase_that_needs_labels_is_refused_before_training(tmp_path):
    hook = dict(type='reprefine.DenoisePhaseHook')
    runner = runner_of(tmp_path, [hook], wrapped(label_free=True), samples=Samples(labelled=False))
    with pytest.raises(UserError, match=r"label_free.*phases=\('denoise',\)"):
        runner.train()
    assert runner.iter == 0


def test_wrong_unit_is_refused():
    with pytest.raises(ValueError, match="by='step': use 'epoch' or 'iter'"):
        DenoisePhaseHook(by='step')


HOOKS = [dict(type='reprefine.DenoisePhaseHook', phase_length=1), dict(type='reprefine.ReparameterizeHook')]
BEST = dict(default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1, save_best='score', rule='greater')))


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp('deployed')
    runner = runner_of(folder, HOOKS, epochs=3, validate=True, **BEST)
    runner.train()
    return folder, runner


@pytest.mark.parametrize('name', ['epoch_3', 'best_score_epoch_1'])
def test_deployed_files_load_strictly_into_the_baseline_and_predict_the_same(trained, name):
    folder, runner = trained
    trained_model = wrapped(seed=5).eval()
    load_checkpoint(trained_model, str(folder / f'{name}.pth'), strict=True)
    stock = ToyClassifier().eval()
    load_checkpoint(stock, str(folder / f'{name}_deploy.pth'), strict=True)
    x = images(16, 3)
    torch.testing.assert_close(stock(x), trained_model(x), rtol=1e-5, atol=1e-5)
    denoise_state(trained_model).denoise_eval = False
    assert (stock(x) - trained_model(x)).abs().max() > 1e-5
    checkpoint = torch.load(folder / f'{name}_deploy.pth', weights_only=True)
    assert set(checkpoint['state_dict']) == set(stock.state_dict())
    assert not list(folder.glob('*.partial'))
    assert len(denoise_layers(runner.model)) == 4  # the model of the run is not modified


def test_running_again_in_the_same_folder_replaces_the_deployed_files(trained):
    folder, _ = trained
    before = (folder / 'epoch_3_deploy.pth').read_bytes()
    runner_of(folder, HOOKS, wrapped(seed=6), epochs=3, validate=True, **BEST).train()
    assert (folder / 'epoch_3_deploy.pth').read_bytes() != before


def test_the_deployed_form_of_an_ema_run_is_the_averaged_model(tmp_path):
    hooks = [*HOOKS, dict(type='EMAHook', momentum=0.3)]
    runner_of(tmp_path, hooks, epochs=2).train()
    averaged, stock, x = wrapped(seed=5).eval(), ToyClassifier().eval(), images(8, 3)
    checkpoint = torch.load(tmp_path / 'epoch_2.pth', weights_only=True)
    averaged.load_state_dict(checkpoint['state_dict'])
    load_checkpoint(stock, str(tmp_path / 'epoch_2_deploy.pth'), strict=True)
    torch.testing.assert_close(stock(x), averaged(x), rtol=1e-5, atol=1e-5)
    current = {k.removeprefix('module.'): v for k, v in checkpoint['ema_state_dict'].items() if k != 'steps'}
    assert any(not torch.equal(v, current[k]) for k, v in checkpoint['state_dict'].items())


@pytest.mark.parametrize('options', [dict(), dict(resume=True)])
def test_training_from_a_deployed_checkpoint_is_refused(trained, tmp_path, options):
    folder, _ = trained
    runner = runner_of(tmp_path, HOOKS[:1], load_from=str(folder / 'epoch_3_deploy.pth'), **options)
    with pytest.raises(UserError, match='deployed already'):
        runner.train()


@pytest.mark.parametrize('include', ['all', ['patch', 'fc1']])
@pytest.mark.parametrize('side', [None, 'input', 'output'])
def test_the_deployed_form_is_compared_with_the_explicit_path(include, side, monkeypatch):
    model = refined(include=include, side=side).double()
    layers = list(denoise_layers(model))
    example = Example(images(2, 3), None, 'images')
    exact = compare(model, switch_to_deploy(copy.deepcopy(model)), [example], layers)
    assert set(layers) < set(exact.differences)
    assert exact.worst[1] < 1e-12
    merge = 'merge_input_side' if side == 'input' else 'merge_output_side'
    monkeypatch.setattr(f'reprefine.methods.denoiserep.layers.linear_conv.{merge}', lambda w, b, d, shift, step: (w, b))
    wrong = compare(model, switch_to_deploy(copy.deepcopy(model)), [example], layers)
    assert wrong.differences['backbone.patch_embed'] > 1e-4


def test_a_deployed_form_that_is_not_exact_is_not_written(trained, tmp_path, monkeypatch):
    folder, _ = trained
    monkeypatch.setattr(
        'reprefine.methods.denoiserep.layers.linear_conv.merge_input_side', lambda w, b, d, shift, step: (2 * w, b)
    )
    with pytest.raises(UserError, match='differs by .* nothing is written'):
        reparameterize_file(refined(), folder / 'epoch_3.pth', tmp_path / 'out.pth')
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_without_noise_predictor_is_not_reparameterised(trained, tmp_path):
    folder, _ = trained
    torch.save({'state_dict': ToyClassifier().state_dict()}, folder / 'baseline.pth')
    for name, reason in (('epoch_3_deploy', r'deployed already \(Denoise'), ('baseline', r'does not fit.*denoiser')):
        with pytest.raises(UserError, match=reason):
            reparameterize_file(refined(), folder / f'{name}.pth', tmp_path / 'out.pth')
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ('options', 'train_cfg', 'fractions'),
    [
        (dict(phase_length=2), dict(max_epochs=5), {D: 0.6, B: 0.4}),
        (dict(phase_length=10, first_index=1), dict(max_epochs=20), {D: 0.5, B: 0.5}),
        (dict(phase_length=3, by='iter'), dict(max_iters=4), {D: 0.75, B: 0.25}),
        (dict(phase_length=3, by='iter', phases=(D, B, B)), dict(max_epochs=4), {D: 1 / 3, B: 2 / 3}),
    ],
)
def test_shares_of_the_phases_are_those_of_the_schedule(options, train_cfg, fractions):
    assert DenoisePhaseHook(**options).phase_shares(train_cfg) == pytest.approx(fractions)
