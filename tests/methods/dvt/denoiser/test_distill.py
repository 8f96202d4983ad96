"""Stage 3: initial student, training of the student only, and averaged gradients of two processes."""

import pytest
import torch
from torch.testing import assert_close

from reprefine.engine.cli.launch import load_config
from reprefine.methods.dvt import FeatureLoss
from tests.helpers.forked import run_ranks
from tests.helpers.run import ROOT
from tests.helpers.schedules import schedule

from . import workers


@pytest.fixture(scope='module')
def ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp('gloo')
    run_ranks(workers.work, str(folder))
    return [torch.load(folder / f'rank{rank}.pth', weights_only=True) for rank in range(2)]


def test_two_processes_take_the_same_step_as_one_process_with_all_images(ranks):
    """Each rank has its own images and losses, and all have the averaged gradients."""
    first, second = ranks
    assert first['losses'] != second['losses']
    model = workers.distiller().train()
    single = workers.step(model, model, workers.images())
    assert len(single['gradients']) > 20
    for name, gradient in single['gradients'].items():
        assert torch.equal(first['gradients'][name], second['gradients'][name]), name
        assert_close(first['gradients'][name], gradient, rtol=1e-4, atol=1e-6)
    for name, value in single['weights'].items():
        assert torch.equal(first['weights'][name], second['weights'][name]), name
        assert_close(first['weights'][name], value, rtol=1e-4, atol=1e-6)
    assert (first['losses']['loss'] + second['losses']['loss']) / 2 == pytest.approx(single['losses']['loss'], rel=1e-5)


def test_initial_loss_is_that_of_the_raw_features():
    model = workers.distiller()
    x = workers.images()
    raw = model.teacher(x)[-1]
    target = model.neck.denoiser(raw)
    assert (target - raw).abs().mean() > 0.1
    expected = FeatureLoss()(raw, target)
    losses = model(x, mode='loss')
    assert losses.keys() == expected.keys()
    assert all(torch.equal(losses[name], value) for name, value in expected.items())
    assert torch.equal(model(x)[-1], raw)


def test_only_the_student_is_trained_and_saved():
    model = workers.distiller().train()
    before = {name: value.clone() for name, value in model.named_parameters()}
    assert {name.split('.')[0] for name, p in model.named_parameters() if p.requires_grad} == {'backbone'}
    assert not model.teacher.training
    assert not model.neck.training
    assert model.backbone.training
    losses = [workers.step(model, model, workers.images())['losses']['loss'] for _ in range(5)]
    assert losses[-1] < 0.9 * losses[0]
    changed = {name.split('.')[0] for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    assert changed == {'backbone'}
    state = model.state_dict()
    assert all(name.startswith('backbone.vit.') for name in state)
    fresh = workers.distiller()
    fresh.load_state_dict(state, strict=True)
    assert torch.equal(fresh(workers.images())[-1], model.eval()(workers.images())[-1])


def test_learning_rate_and_batch():
    cfg = load_config(str(ROOT / 'configs/dvt/distill/vit-b-dinov2_distill_8xb64-5e_in1k.py'))
    assert 8 * cfg.train_dataloader.batch_size == 512
    iterations = cfg.train_cfg.max_epochs * -(-1281167 // 512)
    assert cfg.param_scheduler[0].total == iterations
    cfg.train_cfg.max_iters = iterations
    rates, _ = schedule(cfg)
    peak = 2e-4 * 2**0.5
    warmup = int(0.15 * iterations)
    assert rates[0] == 0
    assert rates[warmup - 1] == rates[warmup] == max(rates) == pytest.approx(peak, rel=1e-12)
    assert rates[-1] == pytest.approx(1e-6, rel=1e-3)
