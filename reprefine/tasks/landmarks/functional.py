"""Normalised landmark errors of faces, and their failure rate and area under the curve."""

import numpy as np


def normalized_errors(
    predicted: np.ndarray, annotated: np.ndarray, valid: np.ndarray, reference: tuple[int, int]
) -> np.ndarray:
    """Return each face's mean distance between prediction and annotation, in units of a reference distance.

    Args:
        predicted: Coordinates, shape (N, K, 2).
        annotated: Coordinates, shape (N, K, 2).
        valid: Which landmarks are evaluated, bool of shape (N, K).
        reference: Two landmarks whose annotated distance is the unit, usually the outer eye corners.

    Returns:
        Errors, shape (N,); NaN for faces without a valid landmark.
    """
    distances = np.linalg.norm(predicted - annotated, axis=-1)
    first, second = reference
    unit = np.linalg.norm(annotated[:, first] - annotated[:, second], axis=-1)
    with np.errstate(invalid='ignore', divide='ignore'):
        return (distances * valid).sum(axis=1) / valid.sum(axis=1) / unit


def failure_rate(errors: np.ndarray, threshold: float) -> float:
    """Return the share of the faces whose error exceeds the threshold.

    Args:
        errors: Error of each face, shape (N,).
        threshold: Largest error of a success.
    """
    return float(np.mean(errors > threshold))


def area_under_curve(errors: np.ndarray, threshold: float) -> float:
    """Return the area under the cumulative distribution of the errors between 0 and the threshold, in its units.

    The integral of this step function is exact: each face adds the distance of its error to the threshold.

    Args:
        errors: Error of each face, shape (N,).
        threshold: Upper limit of the integral.

    Returns:
        The area divided by the threshold: 1 if all errors are 0, 0 if none is below the threshold.
    """
    return float(np.mean(np.maximum(0, 1 - errors / threshold)))
