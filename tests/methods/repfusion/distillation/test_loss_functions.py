"""The loss functions against closed forms, loops in float64 and other libraries."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.spatial.distance import cdist
from torch.testing import assert_close

from reprefine.methods.repfusion.distillation import loss_functions as f
from reprefine.methods.repfusion.functional import l2_normalize


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def huber(x):
    return np.where(np.abs(x) < 1, 0.5 * x**2, np.abs(x) - 0.5)


S, T = draw(5, 6, 3, 3), draw(5, 4, 3, 3, seed=1)
P = draw(5, 4, 3, 3, seed=2)


def test_hint_is_the_mean_over_samples_and_channels_of_pooled_differences():
    expected = np.mean((P.numpy().mean((2, 3)) - T.numpy().mean((2, 3))) ** 2)
    assert_close(f.hint_loss(P, T).item(), expected, rtol=1e-12, atol=0)


def test_projecting_before_pooling_equals_projecting_after():
    conv = torch.nn.Conv2d(6, 4, 1).double()
    assert_close(
        f.global_average_pool(conv(S)),
        conv(f.global_average_pool(S)[..., None, None]).flatten(1),
        rtol=1e-12,
        atol=1e-12,
    )


@pytest.mark.parametrize('power', [1.0, 2.0, 3.0])
def test_attention_map_by_a_loop(power):
    maps = f.attention_map(S, power=power).numpy()
    for attention, features in zip(maps, S.numpy(), strict=True):
        expected = (np.abs(features) ** power).sum(0)
        np.testing.assert_allclose(attention[0], expected / (np.sqrt((expected**2).sum()) + 1e-6), rtol=1e-12)


def test_attention_transfer_counts_positions_once_and_resizes_the_student():
    assert_close(
        f.attention_transfer_loss(S, T), (f.attention_map(S) - f.attention_map(T)).square().mean(), rtol=1e-12, atol=0
    )
    large = draw(5, 6, 6, 6, seed=4)
    small = F.interpolate(large, (3, 3), mode='bilinear', align_corners=False)
    assert_close(f.attention_transfer_loss(large, T), f.attention_transfer_loss(small, T), rtol=1e-12, atol=0)


@pytest.mark.parametrize('scale', [0.5, 7.0])
def test_attention_does_not_depend_on_the_scale_of_the_student(scale):
    assert_close(f.attention_transfer_loss(scale * S, T), f.attention_transfer_loss(S, T), rtol=1e-4, atol=1e-8)


def test_losses_are_zero_for_equal_features():
    for name in ('hint', 'attention_transfer', 'dense', 'relational', 'normalized_l2', 'cosine'):
        assert abs(getattr(f, f'{name}_loss')(T, T.clone()).item()) < 1e-10, name


def test_pairwise_distances_are_scipys():
    x = draw(7, 5)
    np.testing.assert_allclose(f.pairwise_distances(x).numpy(), cdist(x, x), atol=1e-6)
    assert (f.pairwise_distances(x).diagonal() == 0).all()


@pytest.mark.parametrize('metric', ['euclidean', 'sqeuclidean'])
def test_relational_distance_by_loops(metric):
    a, b = draw(6, 5), draw(6, 3, seed=1)
    units = []
    for x in (a, b):
        distances = cdist(x, x, metric)
        units.append(distances / distances[~np.eye(6, dtype=bool)].mean())
    expected = huber(units[0] - units[1]).mean()
    squared = metric == 'sqeuclidean'
    assert_close(f.relational_distance_loss(a, b, squared).item(), expected, rtol=1e-9, atol=0)


def test_relational_angle_by_loops():
    a, b = draw(5, 4), draw(5, 3, seed=1)

    def cosine(x, i, j, k):
        u, v = (x[m] - x[i] for m in (j, k))
        return 0.0 if 0 in (u.norm(), v.norm()) else float(u @ v / u.norm() / v.norm())

    triples = [(i, j, k) for i in range(5) for j in range(5) for k in range(5)]
    expected = np.mean([huber(cosine(a, *t) - cosine(b, *t)) for t in triples])
    assert_close(f.relational_angle_loss(a, b).item(), expected, rtol=1e-9, atol=0)


def test_relational_weights():
    a, b = draw(6, 5), draw(6, 3, seed=1)
    expected = 25 * f.relational_distance_loss(a, b) + 50 * f.relational_angle_loss(a, b)
    assert_close(f.relational_loss(a, b), expected, rtol=1e-12, atol=0)


def test_relational_loss_does_not_depend_on_scale_and_rotation():
    x = draw(8, 6)
    rotation = torch.linalg.qr(draw(6, 6, seed=3)).Q
    assert f.relational_loss(3.0 * x, x).item() < 1e-10
    assert f.relational_loss(x @ rotation, x).item() < 1e-10
    assert f.relational_loss(x @ draw(6, 6, seed=3), x).item() > 0.1


@pytest.mark.parametrize('number', [9, 20])
def test_angles_in_chunks_give_the_same_value_and_gradient(number):
    results = []
    for chunk in (64, 6):
        x = draw(number, 5).requires_grad_()
        value = f.relational_angle_loss(x, draw(number, 3, seed=1), chunk)
        value.backward()
        results.append((value.detach(), x.grad))
    assert_close(results[0], results[1], rtol=1e-10, atol=1e-12)


def test_angles_in_chunks_bound_the_memory(monkeypatch):
    sizes = []
    original = f.angle_cosines
    monkeypatch.setattr(f, 'angle_cosines', lambda x, anchors: sizes.append(len(anchors)) or original(x, anchors))
    f.relational_angle_loss(draw(20, 5), draw(20, 3), chunk=10)
    assert max(sizes) * 20 * 20 <= 10**3


def test_gradient_of_the_relational_loss_is_the_numerical_one():
    teacher = draw(5, 3, seed=1)
    x = draw(5, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: f.relational_loss(s, teacher), (x,))


@pytest.mark.parametrize('number', [1, 4])
def test_equal_rows_and_single_samples_give_finite_gradients(number):
    x = torch.ones(number, 4, requires_grad=True)
    value = f.relational_loss(x, draw(number, 3, dtype=torch.float32))
    value.backward()
    assert value.isfinite()
    assert (x.grad == 0).all()


@pytest.mark.parametrize('apart', [0.0, 1e-7, 1e-4])
def test_two_equal_rows_among_others_have_a_moderate_gradient(apart):
    """Or two that differ by rounding errors; more distant ones have the gradient of the exact formula."""
    x = draw(8, 16, dtype=torch.float32) + 3
    x[3] = x[1] * (1 + apart * draw(16, seed=5, dtype=torch.float32))
    teacher = draw(8, 4, seed=1, dtype=torch.float32)
    single, double = x.clone().requires_grad_(), x.double().requires_grad_()
    for student in (single, double):
        f.relational_loss(student, teacher.to(student)).backward()
    assert single.grad.abs().max() < (1 if apart < 1e-6 else 1e4)
    if apart > 1e-6:
        assert_close(single.grad.double(), double.grad, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize('loss', [f.normalized_l2_loss, f.cosine_loss, f.contrastive_loss])
def test_a_vector_of_length_zero_has_no_direction_and_no_gradient(loss):
    x = draw(6, 5, dtype=torch.float32)
    x[2] = 0
    x.requires_grad_()
    loss(x, draw(6, 5, seed=1, dtype=torch.float32)).backward()
    assert (x.grad[2] == 0).all()
    assert 0 < x.grad.abs().max() < 10


def test_normalisation_propagates_values_that_are_not_finite():
    x = draw(3, 4)
    x[1, 2] = math.nan
    assert l2_normalize(x)[1].isnan().any()
    assert l2_normalize(torch.tensor([[math.inf, 1.0]])).isnan().any()


def test_relational_loss_of_features_with_a_common_mean_is_precise():
    """Mean 5 and deviation 0.01: in squares, 2 to 6 percent of a distance were rounding errors."""
    x, teacher = 5 + 0.01 * draw(80, 512, dtype=torch.float32), draw(80, 16, seed=1, dtype=torch.float32)
    single, double = x.clone().requires_grad_(), x.double().requires_grad_()
    assert_close(f.pairwise_distances(x).double(), f.pairwise_distances(x.double()), rtol=1e-5, atol=0)
    values = [f.relational_loss(student, teacher.to(student)) for student in (single, double)]
    assert_close(values[0].double(), values[1], rtol=1e-5, atol=0)
    for value in values:
        value.backward()
    assert ((single.grad.double() - double.grad).norm() / double.grad.norm()).item() < 1e-4


def test_normalized_l2_follows_from_the_cosine():
    # |u - v|^2 = 2 - 2 cos for unit vectors, spread over the channels.
    assert_close(f.normalized_l2_loss(P, T), 2 * f.cosine_loss(P, T) / 4, rtol=1e-12, atol=0)


def test_cosine_loss_falls_when_features_get_closer():
    assert f.cosine_loss(T + 0.1 * P, T) < f.cosine_loss(T + P, T) < f.cosine_loss(-T, T)
    assert_close(f.cosine_loss(-T, T).item(), 2.0)


@pytest.mark.parametrize(('name', 'expected'), [('l2', 4.0), ('l1', 2.0)])
def test_dense_compares_all_positions(name, expected):
    assert_close(f.dense_loss(T + 2, T, f.BASE_LOSSES[name]).item(), expected)


def test_dense_resizes_the_student():
    constant = torch.full((2, 3, 8, 8), 1.5)
    assert_close(f.dense_loss(constant, torch.full((2, 3, 4, 4), 1.0)).item(), 0.25)


@pytest.mark.parametrize('temperature', [1.0, 4.0])
def test_soft_target_in_closed_form(temperature):
    a, b = draw(6, 10), draw(6, 10, seed=1)
    p, q = ((x / temperature).softmax(1).numpy() for x in (b, a))
    expected = temperature**2 * (p * np.log(p / q)).sum(1).mean()
    assert_close(f.soft_target_loss(a, b, temperature).item(), expected, rtol=1e-10, atol=0)


def test_soft_target_of_a_certain_teacher_is_cross_entropy():
    teacher = torch.full((1, 3), -1e3, dtype=torch.float64)
    teacher[0, 2] = 1e3
    student = torch.tensor([[0.0, 1.0, 2.0]], dtype=torch.float64)
    expected = math.log(1 + math.e + math.e**2) - 2
    assert_close(f.soft_target_loss(student, teacher, 1.0).item(), expected, rtol=1e-10, atol=0)
