"""The outlines of a walking person, seen from the front, from behind or from the side."""

import cv2
import numpy as np

from toy_data.outlines import ellipse

from .identity import Cloth, Person

Part = tuple[np.ndarray, Cloth]  # outline [N, 2] in body heights, and what it is made of


def body_parts(person: Person, view: str, step: float) -> list[Part]:
    """Return the outlines of a walking person, from back to front.

    Args:
        person: The identity.
        view: ``front``, ``back`` or ``side`` (walking to the right).
        step: Phase of the step, from -1 to 1.

    Returns:
        Outlines in body heights, x from the body's axis, y from the top of the head, each with its cloth.
    """
    wide = person.build * (0.62 if view == 'side' else 1)
    far, near = (_arm(person, view, wide, side, step) for side in (-1, 1))
    trunk = [
        (_limb((0, 0.185), (0, 0.24), 0.05 * wide, 0.115 * wide), person.top),
        (_limb((0, 0.24), (0, 0.46), 0.105 * wide, 0.09 * wide), person.top),
    ]
    behind, before = (far, near) if view == 'side' else ([], far + near)
    legs, head, bag = _legs(person, view, wide, step), _head(person, view), _bag(person, view, wide)
    return [*behind, *legs, *trunk, *head, *before, *bag]


def _limb(start: tuple[float, float], end: tuple[float, float], first: float, last: float) -> np.ndarray:
    """Outline of a limb with round ends of radius ``first`` and ``last``."""
    ends = [ellipse(start, (first, min(first, 0.05))), ellipse(end, (last, min(last, 0.05)))]
    return cv2.convexHull(np.concatenate(ends).astype(np.float32))[:, 0].astype(float)


def _arm(person: Person, view: str, wide: float, side: int, step: float) -> list[Part]:
    swing = 0.10 * step * side
    shoulder = np.array([0.0 if view == 'side' else 0.1 * wide * side, 0.215])
    hand = shoulder + ([swing, 0.30] if view == 'side' else [0.05 * side, 0.30 - abs(swing) * 0.2])
    cuff = shoulder + person.sleeve * 0.9 * (hand - shoulder)
    return [
        (_limb(tuple(shoulder), tuple(hand), 0.024, 0.018), person.skin),
        (_limb(tuple(shoulder), tuple(cuff), 0.03, 0.026), person.top),
    ]


def _legs(person: Person, view: str, wide: float, step: float) -> list[Part]:
    parts = []
    for side in (-1, 1):
        swing = 0.13 * step * side
        hip = (0.02 * side if view == 'side' else 0.048 * wide * side, 0.52)
        foot = (hip[0] + swing, 0.95) if view == 'side' else (hip[0] * 1.1, 0.95 + 0.1 * min(swing, 0))
        knee = ((hip[0] + foot[0]) / 2 + (0.015 if view == 'side' else 0), 0.73)
        toe = (foot[0] + (0.04 if view == 'side' else 0.01 * side), foot[1] + 0.02)
        calf = person.bottom if person.bottom_kind == 'trousers' else person.skin
        parts += [(_limb(foot, toe, 0.025, 0.024), person.shoes), (_limb(knee, foot, 0.035, 0.026), calf)]
        parts.append((_limb(hip, knee, 0.052 * person.build, 0.037), person.bottom))
    if person.bottom_kind == 'skirt':
        parts.append((_limb((0, 0.50), (0, 0.70), 0.085 * wide, 0.125 * wide), person.bottom))
    return parts


def _head(person: Person, view: str) -> list[Part]:
    neck = (_limb((0, 0.12), (0, 0.17), 0.026, 0.03), person.skin)
    turned = 0.012 if view == 'side' else 0.0
    skull, face = ellipse((0, 0.068), (0.054, 0.066)), ellipse((turned, 0.085), (0.044, 0.052))
    mane = (_limb((-2 * turned, 0.08), (-2 * turned, 0.20), 0.056, 0.05), person.hair)
    hair, front = (skull, person.hair), (face, person.skin)
    if view == 'back':
        return [neck, hair] + [mane] * person.long_hair
    return [mane] * person.long_hair + [neck, hair, front]


def _bag(person: Person, view: str, wide: float) -> list[Part]:
    """Return what is seen of the person's bag. Seen from behind, left and right change sides."""
    right = (-1 if view == 'back' else 1) * wide
    if person.bag_kind == 'backpack':
        straps = [_limb((0.06 * wide * side, 0.19), (0.07 * wide * side, 0.36), 0.014, 0.014) for side in (-1, 1)]
        pack = _limb((0, 0.24), (0, 0.39), 0.075, 0.085)
        outlines = {'front': straps, 'back': [pack], 'side': [pack * [0.7, 1] - [0.09, 0]]}[view]
    elif person.bag_kind == 'handbag':
        outlines = [_limb((0.16 * right, 0.53), (0.16 * right, 0.61), 0.04, 0.065)]
    elif person.bag_kind == 'sling':
        pouch = _limb((0.1 * right, 0.47), (0.1 * right, 0.53), 0.045, 0.05)
        outlines = [_limb((-0.08 * right, 0.19), (0.1 * right, 0.47), 0.014, 0.014), pouch]
    else:
        outlines = []
    return [(outline, person.bag) for outline in outlines]
