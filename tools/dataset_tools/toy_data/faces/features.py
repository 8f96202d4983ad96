"""Layers of brows, eyes, nose and mouth; their outlines run through the landmarks."""

import cv2
import numpy as np

from toy_data.outlines import curve, ellipse

from .layer import Layer, PosedFace

_DARK = np.full(3, 0.08)
_WHITE = np.full(3, 0.95)


def brows(posed: PosedFace) -> list[Layer]:
    """Return the layers of both brows."""
    points = posed.landmarks
    left = [curve(points[33:38]), curve(points[[38, 39, 40, 41, 33]])]
    right = [curve(points[42:47]), curve(points[46:51])]
    parts = (('l_brow', left), ('r_brow', right))
    return [Layer([np.concatenate(edges)], posed.appearance.brows, part) for part, edges in parts]


def eyes(posed: PosedFace) -> list[Layer]:
    """Return the layers of both eyes, with lashes and the colour on the lids."""
    points, layers = posed.landmarks, []
    radius = posed.shape.eye_height * 0.95
    for part, first, pupil in (('l_eye', 60, 96), ('r_eye', 68, 97)):
        upper = curve(points[first : first + 5])
        eye = np.concatenate([upper, curve(points[[*range(first + 4, first + 8), first]])])
        if posed.appearance.makeup is not None:
            layers.append(Layer([_band(upper, -0.13)], posed.appearance.makeup, alpha=0.75))
        layers += [
            Layer([eye], _WHITE, part),
            Layer([ellipse(points[pupil], (radius, radius))], posed.appearance.iris, within=(eye,)),
            Layer([ellipse(points[pupil], (radius * 0.45, radius * 0.45))], _DARK, within=(eye,)),
            Layer([_band(upper, -0.035)], _DARK, alpha=0.8),
        ]
    return layers


def nose(posed: PosedFace) -> list[Layer]:
    """Return the layers of the nose."""
    points, width, base = posed.landmarks, posed.shape.nose_width, posed.shape.nose
    side = np.array([[-0.09, 0.0, 0.27], [-0.1, 0.5 * base, 0.35], [-width, base - 0.14, 0.3]])
    left, right = posed.project(side), posed.project(side[::-1] * [-1, 1, 1])
    outline = np.concatenate([curve(np.concatenate([left, points[55:60], right])), points[51:52]])
    ridge = cv2.convexHull(points[51:60].astype(np.float32))[:, 0]  # stands out beyond the sides when turned away
    shine = np.concatenate([points[51:55] - [0.03, 0], points[54:50:-1] + [0.03, 0]])
    nostrils = [ellipse(points[index] - [0, 0.035], (0.05, 0.025)) for index in (56, 58)]
    return [
        *(Layer([area], posed.appearance.skin * 0.9, 'nose') for area in (outline, ridge)),
        Layer([shine, ellipse(points[54], (0.07, 0.05))], np.ones(3), alpha=0.18),
        Layer(nostrils, posed.appearance.skin * 0.35),
    ]


def mouth(posed: PosedFace) -> list[Layer]:
    """Return the layers of the lips and, if they are apart, of what lies between them."""
    points, layers = posed.landmarks, []
    inner_top, inner_bottom = curve(points[88:93]), curve(points[[92, 93, 94, 95, 88]])
    inner = np.concatenate([inner_top, inner_bottom])
    if posed.expression.open > 0:
        layers.append(Layer([inner], np.array([0.35, 0.08, 0.1]), 'mouth'))
        layers.append(Layer([_band(inner_top, 0.09)], _WHITE, within=(inner,)))
    upper = np.concatenate([curve(points[76:83]), inner_top[::-1]])
    lower = np.concatenate([curve(points[[82, 83, 84, 85, 86, 87, 76]]), inner_bottom[::-1]])
    return [
        *layers,
        Layer([upper], posed.appearance.lips * 0.9, 'u_lip'),
        Layer([lower], posed.appearance.lips, 'l_lip'),
    ]


def _band(edge: np.ndarray, height: float) -> np.ndarray:
    """Outline of a band along an edge, above it for a negative height."""
    return np.concatenate([edge, edge[::-1] + [0, height]])
