"""Identities: what stays the same in all photos of a person."""

from dataclasses import dataclass

import cv2
import numpy as np

Color = np.ndarray  # RGB in [0, 1]

# Where a pattern shows its second colour; x and y count the pattern's half periods.
_PATTERNS = {
    'hoops': lambda x, y: y % 2 > 1,
    'stripes': lambda x, y: x % 2 > 1,
    'checks': lambda x, y: (x % 2 > 1) ^ (y % 2 > 1),
}
_SKINS = np.array([[0.95, 0.78, 0.67], [0.83, 0.62, 0.48], [0.62, 0.42, 0.30], [0.42, 0.28, 0.20]])
_HAIRS = np.array([[0.08, 0.07, 0.07], [0.28, 0.17, 0.10], [0.48, 0.30, 0.14], [0.85, 0.72, 0.42], [0.62, 0.60, 0.58]])


@dataclass(frozen=True)
class Cloth:
    """A coloured surface: two colours mixed by a pattern that is fixed to the body."""

    color: Color
    second: Color
    pattern: str = 'plain'
    period: float = 0.05

    def at(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the colours [N, 3] at the body coordinates ``x``, ``y`` of shape [N]."""
        shade = np.clip(1 - 14 * x**2, 0.6, 1)[:, None]  # a body is round
        if self.pattern == 'plain':
            return self.color * shade
        second = _PATTERNS[self.pattern](2 * x / self.period, 2 * y / self.period)
        return np.where(second[:, None], self.second, self.color) * shade


@dataclass(frozen=True)
class Person:
    """What all images of an identity share."""

    skin: Cloth
    hair: Cloth
    long_hair: bool
    top: Cloth
    sleeve: float  # covered share of the arm
    bottom: Cloth
    bottom_kind: str
    shoes: Cloth
    bag: Cloth
    bag_kind: str
    build: float  # width relative to the average
    height: float  # share of the image height


def draw_person(rng: np.random.Generator) -> Person:
    """Draw the appearance of a new identity."""
    return Person(
        skin=_plain(rng.choice(_SKINS)),
        hair=_plain(rng.choice(_HAIRS)),
        long_hair=rng.random() < 0.4,
        top=_draw_cloth(rng, str(rng.choice(['plain', 'plain', *_PATTERNS]))),
        sleeve=float(rng.choice([0.35, 1.0])),
        bottom=_draw_cloth(rng, 'plain'),
        bottom_kind=str(rng.choice(['trousers', 'trousers', 'shorts', 'skirt'])),
        shoes=_draw_cloth(rng, 'plain'),
        bag=_draw_cloth(rng, 'plain'),
        bag_kind=str(rng.choice(['none', 'backpack', 'handbag', 'sling'])),
        build=rng.uniform(0.85, 1.25),
        height=rng.uniform(0.82, 0.92),
    )


def _plain(color: Color) -> Cloth:
    return Cloth(color, color)


def _draw_cloth(rng: np.random.Generator, pattern: str) -> Cloth:
    saturation = rng.choice([rng.uniform(0, 0.15), rng.uniform(0.5, 0.95)])
    first = [rng.uniform(0, 360), saturation, rng.uniform(0.2, 0.95)]
    second = [rng.uniform(0, 360), rng.uniform(0, 0.9), (first[2] + 0.45) % 0.9 + 0.1]
    colors = cv2.cvtColor(np.array([[first, second]], np.float32), cv2.COLOR_HSV2RGB)[0]
    return Cloth(colors[0], colors[1], pattern, rng.uniform(0.05, 0.09))
