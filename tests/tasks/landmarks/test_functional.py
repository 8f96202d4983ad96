import numpy as np
import pytest

from reprefine.tasks.landmarks.functional import area_under_curve, failure_rate, normalized_errors


def faces(count: int, landmarks: int = 98) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    annotated = rng.uniform(0, 200, (count, landmarks, 2))
    valid = rng.random((count, landmarks)) < 0.8
    return annotated, valid


@pytest.mark.parametrize('shift', [0.0, 0.05, 0.2])
def test_the_error_of_a_shift_is_its_length(shift):
    annotated, _ = faces(20)
    distance = np.linalg.norm(annotated[:, 60] - annotated[:, 72], axis=1)
    direction = np.array([0.6, -0.8])
    predicted = annotated + shift * distance[:, None, None] * direction
    errors = normalized_errors(predicted, annotated, np.ones((20, 98), bool), (60, 72))
    assert errors == pytest.approx(np.full(20, shift))
    assert failure_rate(errors, 0.1) == (shift > 0.1)
    assert area_under_curve(errors, 0.1) == pytest.approx(max(0, 1 - shift / 0.1))


def test_errors_one_by_one():
    annotated, valid = faces(5)
    predicted = annotated + np.random.default_rng(1).normal(0, 4, annotated.shape)
    expected = []
    for face in range(5):
        unit = np.hypot(*(annotated[face, 3] - annotated[face, 7]))
        distances = [np.hypot(*(predicted[face, k] - annotated[face, k])) for k in range(98) if valid[face, k]]
        expected.append(sum(distances) / len(distances) / unit)
    assert normalized_errors(predicted, annotated, valid, (3, 7)) == pytest.approx(expected)


def test_a_face_without_landmarks_has_no_error():
    annotated, valid = faces(2)
    valid[1] = False
    errors = normalized_errors(annotated, annotated, valid, (60, 72))
    assert errors[0] == 0
    assert np.isnan(errors[1])


def test_area_is_the_integral_of_the_cumulative_distribution():
    errors = np.random.default_rng(0).gamma(2, 0.03, 300)
    grid = (np.arange(100_000) + 0.5) * 1e-6  # midpoints between 0 and 0.1
    cumulative = np.searchsorted(np.sort(errors), grid, side='right') / len(errors)
    assert area_under_curve(errors, 0.1) == pytest.approx(cumulative.mean(), abs=1e-5)
    assert failure_rate(errors, 0.1) == pytest.approx(1 - cumulative[-1])


def test_an_error_at_the_threshold_is_no_failure():
    assert failure_rate(np.array([0.1, 0.1, 0.2, 0.05]), 0.1) == 0.25
