"""What a face looks like: colours, hair, accessories, pose and expression, as drawn at random."""

from dataclasses import dataclass, field

import numpy as np

from toy_data.textures import color

from .landmarks import Expression, Shape

Color = np.ndarray  # RGB in [0, 1]

_SKINS = np.array([[0.96, 0.80, 0.69], [0.88, 0.68, 0.54], [0.72, 0.51, 0.38], [0.50, 0.34, 0.25]])
_HAIRS = np.array([[0.10, 0.08, 0.08], [0.30, 0.19, 0.11], [0.52, 0.33, 0.16], [0.86, 0.72, 0.42], [0.60, 0.58, 0.57]])
_EYES = np.array([[0.30, 0.18, 0.10], [0.25, 0.42, 0.62], [0.30, 0.45, 0.25]])


@dataclass(frozen=True)
class Appearance:
    """Colours and accessories; None where there is nothing."""

    skin: Color
    lips: Color
    iris: Color
    brows: Color
    hair: Color | None
    long_hair: bool
    parting: float  # x where the hair parts
    cloth: Color
    glasses: Color | None = None
    hat: Color | None = None
    earrings: Color | None = None
    necklace: Color | None = None
    makeup: Color | None = None  # of eyelids and cheeks
    occluder: Color | None = None
    occluded: float = 0.0  # where the occluder lies, -1 (image's left) to 1


@dataclass(frozen=True)
class Face:
    """Everything that decides how a face appears."""

    appearance: Appearance
    shape: Shape = field(default_factory=Shape)
    expression: Expression = field(default_factory=Expression)
    yaw: float = 0.0  # degrees, as in :func:`~.landmarks.project`
    pitch: float = 0.0
    roll: float = 0.0


def draw_face(rng: np.random.Generator, attribute: str | None = None, accessories: bool = True) -> Face:
    """Draw a face.

    Args:
        rng: Source of all random draws.
        attribute: ``largepose``, ``expression``, ``makeup`` or ``occlusion`` to show it strongly.
        accessories: Whether glasses, hats and jewellery may occur.
    """
    turned = attribute == 'largepose'
    return Face(
        appearance=_draw_appearance(rng, attribute, accessories),
        shape=_draw_shape(rng),
        expression=_draw_expression(rng, strong=attribute == 'expression'),
        yaw=rng.choice([-1, 1]) * rng.uniform(30, 42) if turned else np.clip(rng.normal(0, 8), -16, 16),
        pitch=np.clip(rng.normal(0, 3), -6, 6),
        roll=np.clip(rng.normal(0, 12 if turned else 6), -20, 20),
    )


def _draw_shape(rng: np.random.Generator) -> Shape:
    usual = Shape()
    spread = dict.fromkeys(('brow', 'eye_width', 'eye_height', 'nose_width', 'mouth_width', 'jaw'), 0.08)
    spread |= dict.fromkeys(('width', 'chin', 'eye', 'nose', 'mouth'), 0.03)
    spread |= {'brow_thickness': 0.25, 'lip': 0.2}
    return Shape(**{name: getattr(usual, name) * (1 + rng.uniform(-by, by)) for name, by in spread.items()})


def _draw_expression(rng: np.random.Generator, strong: bool) -> Expression:
    opened = rng.uniform(0.22, 0.36) if strong else rng.choice([0.0, 0.0, rng.uniform(0.05, 0.12)])
    return Expression(
        smile=rng.uniform(-0.4, 1),
        open=opened,
        brow=rng.uniform(0.08, 0.14) if strong else rng.uniform(-0.03, 0.04),
        eyes=rng.uniform(1.2, 1.5) if strong else rng.uniform(0.75, 1.15),
        gaze=rng.uniform(-0.05, 0.05),
    )


def _draw_appearance(rng: np.random.Generator, attribute: str | None, accessories: bool) -> Appearance:
    skin, hair = rng.choice(_SKINS) * rng.uniform(0.92, 1.04), rng.choice(_HAIRS)
    made_up = attribute == 'makeup'

    def maybe(chance: float, color: Color) -> Color | None:
        return color if rng.random() < chance else None

    return Appearance(
        skin=skin,
        lips=_vivid(rng, (0.9, 1.02)) if made_up else skin * [0.88, 0.62, 0.62],
        iris=rng.choice(_EYES),
        brows=hair * 0.75,
        hair=maybe(0.9, hair),
        long_hair=rng.random() < 0.5,
        parting=rng.uniform(-0.5, 0.5),
        cloth=_vivid(rng, (0, 1)),
        glasses=maybe(0.25 * accessories, np.full(3, 0.12)),
        hat=maybe(0.2 * accessories, _vivid(rng, (0, 1))),
        earrings=maybe(0.35 * accessories, np.array([0.95, 0.8, 0.25])),
        necklace=maybe(0.35 * accessories, np.array([0.9, 0.85, 0.6])),
        makeup=maybe(made_up, _vivid(rng, (0.55, 0.95))),
        occluder=maybe(attribute == 'occlusion', color(rng, (0.3, 0.9)) / 255),
        occluded=rng.uniform(-1, 1),
    )


def _vivid(rng: np.random.Generator, hue: tuple[float, float]) -> Color:
    return color(rng, (0.45, 0.85), hue, (0.55, 0.9)) / 255
