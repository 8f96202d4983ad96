"""MoCo and DenseCL with feature transformation against those of mmpretrain."""

import copy

import pytest
import torch
from torch.testing import assert_close

from reprefine.engine.errors import UserError
from reprefine.methods.feature_transform import TransformDraws
from reprefine.methods.feature_transform.densecl import matching_keys
from reprefine.methods.feature_transform.score_files import KEYS

from .toys import DENSECL, MOCO, build, moco_ft, unit, views

BASE_MODELS = pytest.mark.parametrize('base', [MOCO, DENSECL], ids=['moco', 'densecl'])
V1 = dict(
    neck=dict(type='LinearNeck', in_channels=32, out_channels=8, gap_dim=2, norm_cfg=None),
    head=dict(type='ContrastiveHead', loss=dict(type='CrossEntropyLoss'), temperature=0.07),
)


def refined(base, seed=0, **changes):
    return build(base, seed, type=f'reprefine.{base["type"].split(".")[1]}FT', **{'feature_transform': {}, **changes})


def step(model, batch=6, seed=1):
    """Losses of one training step, and the gradients of the encoder."""
    torch.manual_seed(seed)
    losses = model.train().loss(views(batch), None)
    total = sum(value for key, value in losses.items() if 'loss' in key)
    model.zero_grad()
    total.backward()
    return total.detach(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def assert_states_equal(first, second):
    assert first.keys() == second.keys()
    for key, value in first.items():
        assert torch.equal(value, second[key]), key


@BASE_MODELS
@pytest.mark.parametrize('off', ['None', 'no side', 'disabled', 'identity'])
def test_without_effect_it_is_the_base_model(base, off, monkeypatch):
    """Loss, gradients and what the step leaves behind."""
    sides = dict(pos=None, neg=None) if off == 'no side' else {}
    baseline, ft_model = build(base), refined(base, feature_transform=None if off == 'None' else sides)
    ft_model.feature_transform.enabled = off != 'disabled'
    if off == 'identity':
        one = torch.tensor(1.0)
        monkeypatch.setattr(
            ft_model.feature_transform,
            'sample',
            lambda batch, keys, *_: TransformDraws(one, one, torch.arange(keys).flip(0)),
        )
    assert_states_equal(baseline.state_dict(), ft_model.state_dict())
    (expected, gradients), (loss, ft_gradients) = step(baseline), step(ft_model)
    assert_close(loss, expected, rtol=0, atol=1e-5)
    assert gradients.keys() == ft_gradients.keys()
    for name, gradient in gradients.items():
        assert_close(ft_gradients[name], gradient, rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f'{n}: {m}')
    for key, value in baseline.state_dict().items():
        assert_close(ft_model.state_dict()[key], value, rtol=0, atol=1e-6, msg=lambda m, k=key: f'{k}: {m}')


@BASE_MODELS
def test_with_effect_the_loss_differs_and_the_queue_is_equal(base):
    baseline = build(base)
    expected, _ = step(baseline)
    for sides in (dict(pos=None), dict(neg=None), {}):
        ft_model = refined(base, feature_transform=sides)
        loss, _ = step(ft_model)
        assert abs(loss - expected) > 1e-4
        for name in ('queue', 'queue2'):
            if hasattr(baseline, name):
                assert torch.equal(getattr(ft_model, name), getattr(baseline, name))


@BASE_MODELS
def test_state_dict_is_that_of_the_base_model_both_ways(base):
    baseline, ft_model = build(base, 1), refined(base, 2)
    assert list(baseline.state_dict()) == list(ft_model.state_dict())
    ft_model.load_state_dict(baseline.state_dict(), strict=True)
    assert_states_equal(ft_model.state_dict(), baseline.state_dict())
    refined(base, 3).load_state_dict(ft_model.state_dict(), strict=True)
    build(base, 4).load_state_dict(ft_model.state_dict(), strict=True)


def test_features_do_not_depend_on_the_transform():
    baseline, ft_model = build(MOCO).eval(), moco_ft().eval()
    images = views()[0]
    assert torch.equal(baseline.extract_feat(images)[0], ft_model.extract_feat(images)[0])


def test_version_one_trains_with_a_linear_neck():
    model = moco_ft(**V1)
    assert {name for name in model.state_dict() if name.startswith('neck')} == {'neck.fc.weight', 'neck.fc.bias'}
    loss, gradients = step(model)
    assert loss.isfinite()
    assert gradients['neck.fc.weight'].abs().sum() > 0


@BASE_MODELS
def test_statistics_can_be_switched_off_and_do_not_touch_the_loss(base):
    on, off = refined(base), refined(base, with_score_stats=False)
    torch.manual_seed(0)
    with_stats = on.loss(views(), None)
    torch.manual_seed(0)
    without = off.loss(views(), None)
    losses = {key for key in with_stats if 'loss' in key}
    assert with_stats.keys() - losses == set(KEYS)
    assert without.keys() == losses
    assert all(with_stats[key] == without[key] for key in losses)
    total, logged = on.parse_losses(with_stats)
    assert total == sum(without.values())
    assert set(KEYS) < logged.keys()


def test_raw_statistics_are_those_without_the_transform():
    stats = {}
    for enabled in (True, False):
        model = moco_ft()
        model.feature_transform.enabled = enabled
        torch.manual_seed(0)
        stats[enabled] = model.loss(views(), None)
    for key in ('pos_mean', 'pos_var', 'neg_mean', 'neg_var'):
        assert_close(stats[True][f'raw_{key}'], stats[False][key])
    assert stats[True]['pos_mean'] < stats[True]['raw_pos_mean']


@pytest.mark.parametrize('batch', [6, 5, 7, 24])
def test_queue_gets_the_original_keys_and_wraps_around(batch, monkeypatch):
    """Whether or not the batch divides the 24 places."""
    model, made = moco_ft(), []
    encode = model._keys

    def remember(images):
        made.append(encode(images))
        return made[-1]

    monkeypatch.setattr(model, '_keys', remember)
    for count in range(1, 9):
        expected = model.queue.clone()
        torch.manual_seed(count)
        model.loss(views(batch, seed=count), None)
        places = [((count - 1) * batch + i) % 24 for i in range(batch)]
        expected[:, places] = made[-1].T
        assert torch.equal(model.queue, expected)
        assert_close(model.queue.norm(dim=0), torch.ones(24), rtol=0, atol=1e-5)
        assert int(model.queue_ptr) == count * batch % 24


def test_the_transform_does_not_change_queue_and_key_encoder():
    """Different draws, equal encoders: the same queue after a step. Nothing but the encoder gets a gradient."""
    queues = []
    for seed in (1, 2):
        model = moco_ft()
        _, gradients = step(model, seed=seed)
        queues.append(model.queue)
        assert not model.queue.requires_grad
        assert not any(name.startswith('encoder_k') for name in gradients)
    assert_close(*queues, rtol=0, atol=1e-6)


def test_a_batch_longer_than_the_queue_is_an_error():
    with pytest.raises(UserError, match='queue_len=24 is shorter than the global batch of 25'):
        moco_ft().loss(views(25), None)


def test_another_feature_dimension_than_the_queue_has_is_named():
    with pytest.raises(UserError, match=r'shapes \(6, 8\), \(6, 8\) and \(9, 24\)'):
        moco_ft(feat_dim=9).loss(views(), None)


def test_two_steps_after_loading_equal_four_without_interruption():
    def train(model, optimizer, steps):
        return [self_step(model, optimizer, index) for index in steps]

    def self_step(model, optimizer, index):
        loss = model.loss(views(seed=index), None)['loss']
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    def start():
        model = moco_ft().train()
        return model, torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)

    uninterrupted, parts = start(), start()
    torch.manual_seed(9)
    expected = train(*uninterrupted, range(4))
    torch.manual_seed(9)
    train(*parts, range(2))
    saved = copy.deepcopy((parts[0].state_dict(), parts[1].state_dict(), torch.get_rng_state()))
    torch.manual_seed(1234)
    resumed = start()
    for part, state in zip(resumed, saved, strict=False):
        part.load_state_dict(state)
    torch.set_rng_state(saved[2])
    assert train(*resumed, range(2, 4)) == expected[2:]
    assert_states_equal(resumed[0].state_dict(), uninterrupted[0].state_dict())


def test_autocast_keeps_the_loss_in_single_precision():
    model = moco_ft(**V1)
    torch.manual_seed(0)
    with torch.autocast('cpu', torch.bfloat16):
        losses = model.loss(views(), None)
    losses['loss'].backward()
    assert all(value.dtype == torch.float32 and value.isfinite() for value in losses.values())
    assert all(p.grad.isfinite().all() for p in model.backbone.parameters())
    assert model.queue.dtype == torch.float32


@BASE_MODELS
def test_keys_have_unit_length_under_autocast(base):
    model = refined(base)
    with torch.autocast('cpu', torch.bfloat16):
        model.loss(views(), None)
    for name in ('queue', 'queue2'):
        if hasattr(model, name):
            assert_close(getattr(model, name).norm(dim=0), torch.ones(24), rtol=0, atol=1e-6)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_dense_keys_are_matched_by_the_cosine(dtype):
    """Whatever the length of the vectors, and with the digits of float32, also under autocast."""
    generator = torch.Generator().manual_seed(0)
    maps, key_maps = (torch.randn(3, 6, 64, generator=generator).to(dtype) for _ in range(2))
    scale = torch.logspace(-2, 2, 64).to(dtype)
    keys = torch.arange(192.0).view(3, 1, 64).expand(3, 4, 64)  # a key names its place
    cosine = torch.nn.functional.cosine_similarity(maps.double()[..., None], (key_maps * scale).double()[:, :, None], 1)
    with torch.autocast('cpu', torch.bfloat16):
        matched = matching_keys(maps, key_maps * scale, keys)
    assert torch.equal(matched[:, 0], cosine.argmax(2) + 64.0 * torch.arange(3)[:, None])


def test_both_queues_of_densecl_enqueue_their_own_keys():
    model = refined(DENSECL)
    before = model.queue.clone(), model.queue2.clone()
    step(model, batch=5)
    for name, old in zip(('queue', 'queue2'), before, strict=True):
        new = getattr(model, name)
        assert torch.equal(new[:, 5:], old[:, 5:])
        assert_close(new[:, :5].norm(dim=0), torch.ones(5), rtol=0, atol=1e-5)
        assert int(getattr(model, f'{name}_ptr')) == 5
    assert not torch.equal(model.queue[:, :5], model.queue2[:, :5])


def test_users_queue_with_rows_is_passed_transposed():
    model = moco_ft()
    rows = unit(24, 8, dtype=torch.float32)
    q, k = unit(3, 8, seed=4, dtype=torch.float32), unit(3, 8, seed=5, dtype=torch.float32)
    draws = model.feature_transform.sample(3, 24, 8)
    pos, neg = model.feature_transform.scores(q, k, rows.T, draws)
    _, _, mixed = model.feature_transform(q, k, rows.T, draws)
    mu, perm = draws.mu, draws.perm
    assert_close(mixed.T, mu * rows + (1 - mu) * rows[perm])
    assert pos.shape == (3, 1)
    assert neg.shape == (3, 24)
