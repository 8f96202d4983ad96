"""MoCo with feature transformation whose encoder has disentangled convolutions."""

import pytest
import torch
from torch import nn

from reprefine.engine.errors import UserError
from reprefine.methods.feature_transform import MoCoFT
from reprefine.methods.pddr.layers.baseline_modules import baseline_state_dict
from reprefine.methods.pddr.layers.lookup import pd_convs
from tests.combinations.pd_networks import (
    KINDS,
    MODES,
    accuracy_of,
    assert_close,
    assert_trained,
    branch_by_branch,
    classifier,
    deployed_copy,
    images,
    refined,
)
from tests.helpers.killed import assert_equal_runs, kill_and_resume
from tests.methods.feature_transform.toys import BACKBONE, moco_ft, runner, views

BOTH = [(kind, mode) for kind in KINDS for mode in MODES]
SAVE = dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=2))


def model(kind: str, mode: str, seed: int = 0) -> nn.Module:
    return moco_ft(seed, backbone=refined(BACKBONE, kind, mode))


def of_the_query(model: nn.Module) -> dict[str, torch.Tensor]:
    """The parameters that the key encoder averages, by their names in it."""
    both = (('module.0', model.backbone), ('module.1', model.neck))
    return {f'{start}.{name}': value for start, part in both for name, value in part.named_parameters()}


def copies(parameters: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in parameters.items()}


@pytest.fixture(scope='module', params=BOTH, ids=lambda both: '-'.join(both))
def trained(request, tmp_path_factory):
    """A model trained for two iterations, and the folder with its checkpoint."""
    folder = tmp_path_factory.mktemp('moco')
    encoder = model(*request.param)
    runner(folder, encoder, 8, dict(by_epoch=False, max_iters=2), default_hooks=SAVE).train()
    return *request.param, branch_by_branch(encoder), folder


@pytest.mark.parametrize(('kind', 'mode'), BOTH)
def test_the_key_encoder_is_the_moving_average_name_by_name(kind, mode):
    moco = model(kind, mode).train()
    assert type(moco) is MoCoFT
    optimizer = torch.optim.SGD([p for p in moco.parameters() if p.requires_grad], 0.05, momentum=0.9)
    keys = dict(moco.encoder_k.named_parameters())
    assert keys.keys() == of_the_query(moco).keys()
    assert len(pd_convs(moco.encoder_k)) == len(pd_convs(moco.backbone)) == 16
    before = copies(of_the_query(moco))
    for step in range(3):
        query, key = copies(of_the_query(moco)), copies(keys)
        losses = moco.loss(views(seed=step), None)
        for name, value in keys.items():
            expected = query[name] if step == 0 else key[name].lerp(query[name], 0.05)
            assert torch.equal(value, expected), name
            assert value.grad is None
        optimizer.zero_grad()
        losses['loss'].backward()
        optimizer.step()
    moved = [name for name, value in of_the_query(moco).items() if not torch.equal(value, before[name])]
    assert set(moved) == before.keys()  # every branch and every gate has a gradient


@pytest.mark.parametrize(('kind', 'mode'), BOTH)
def test_the_queue_gets_the_keys_in_order(kind, mode, monkeypatch):
    moco, made = model(kind, mode).train(), []
    encode = moco._keys
    monkeypatch.setattr(moco, '_keys', lambda batch: made.append(encode(batch)) or made[-1])
    start = moco.queue.clone()
    for count in range(2):
        moco.loss(views(4, seed=count), None)
    assert torch.equal(moco.queue[:, :8], torch.cat(made).T)
    assert torch.equal(moco.queue[:, 8:], start[:, 8:])
    assert int(moco.queue_ptr) == 8


def train(work_dir, kind, mode):
    runner(
        work_dir, model(kind, mode, seed=1), 8, dict(by_epoch=False, max_iters=5), default_hooks=SAVE, resume=True
    ).train()


@pytest.mark.parametrize(('kind', 'mode'), [('PDResNet', 'B'), ('PDConverted', 'A')])
def test_killed_and_resumed_equals_uninterrupted(kind, mode, tmp_path):
    for runs in kill_and_resume(train, kind, mode, folder=tmp_path):
        assert_equal_runs(*runs)


@torch.no_grad()
def test_the_deployed_form_computes_the_same(trained):
    _, _, moco, _ = trained
    assert_trained(moco)
    deployed, x = deployed_copy(moco), images()
    assert not any('standard' in name for name in deployed.state_dict())
    assert_close(deployed.extract_feat(x), moco.extract_feat(x))
    assert_close(deployed.encoder_k(x), moco.encoder_k(x))
    assert torch.equal(deployed.queue, moco.queue)


@torch.no_grad()
def test_the_model_is_reparameterised_into_the_baseline(trained):
    _, mode, moco, _ = trained
    if mode == 'B':
        with pytest.raises(UserError, match='no standard module equals it'):
            baseline_state_dict(moco)
        return
    baseline = moco_ft()
    baseline.load_state_dict(baseline_state_dict(moco))  # strict
    baseline.eval()
    assert_close(baseline.extract_feat(images()), moco.extract_feat(images()))
    assert_close(baseline.encoder_k(images()), moco.encoder_k(images()))


@torch.no_grad()
def test_a_classifier_starts_from_the_deployed_encoder(trained, tmp_path):
    """PD-A: the baseline config loads the weights. PD-B: the same config with ``deploy=True``, from either form."""
    kind, mode, moco, folder = trained
    expected = moco.extract_feat(images())
    state = baseline_state_dict(moco) if mode == 'A' else deployed_copy(moco).state_dict()
    torch.save(dict(state_dict=state), tmp_path / 'deployed.pth')
    deployed = refined(BACKBONE, kind, mode, deploy=True)
    downstream = classifier(BACKBONE if mode == 'A' else deployed, tmp_path / 'deployed.pth')
    assert_close(downstream.extract_feat(images(), stage='backbone'), expected)
    accuracy = accuracy_of(downstream, tmp_path, f'{kind}-{mode}')
    from_training_form = classifier(deployed, folder / 'iter_2.pth')
    from_training_form.head.load_state_dict(downstream.head.state_dict())
    assert_close(from_training_form.extract_feat(images(), stage='backbone'), expected)
    assert accuracy_of(from_training_form, tmp_path, f'{kind}-{mode}-training-form') == accuracy


def test_a_classifier_is_fine_tuned_in_the_training_form(trained):
    kind, mode, moco, folder = trained
    tuned = branch_by_branch(classifier(refined(BACKBONE, kind, mode), folder / 'iter_2.pth'))
    with torch.no_grad():
        assert_close(tuned.extract_feat(images(), stage='backbone'), moco.extract_feat(images()))
    own = tuned.backbone.state_dict()
    assert own.keys() == moco.backbone.state_dict().keys()
    assert all(torch.equal(value, own[name]) for name, value in moco.backbone.state_dict().items())
