"""Layers of neck, clothes, ears, skin and hair, and of accessories."""

import numpy as np

from toy_data.outlines import curve, ellipse

from .layer import Layer, PosedFace


def body(posed: PosedFace) -> list[Layer]:
    """Return long hair behind, neck, clothes and necklace. The body itself does not turn."""
    appearance, layers = posed.appearance, []
    if appearance.hair is not None and appearance.long_hair:
        mane = np.array([[-0.6, -1.1], [-1.2, -0.3], [-1.3, 0.6], [-1.25, 1.6], [-0.9, 2.2]])
        mane = np.concatenate([curve(mane), curve(mane[::-1] * [-1, 1])])
        layers.append(Layer([posed.on(mane, -0.35)], appearance.hair * 0.8, 'hair', hides=True))
    neck = np.array([*posed.on([[-0.55, 0.7], [0.55, 0.7]], -0.2), [0.6, 2.2], [0, 2.45], [-0.6, 2.2]])
    collar = curve(np.array([[-0.62, 1.85], [-0.35, 2.1], [0, 2.25], [0.35, 2.1], [0.62, 1.85]]))
    shoulders = [[1.5, 2.1], [2.2, 2.6], [2.4, 5], [-2.4, 5], [-2.2, 2.6], [-1.5, 2.1]]
    layers.append(Layer([neck], appearance.skin * 0.85, 'neck', hides=True))
    layers.append(Layer([np.array([*collar, *shoulders])], appearance.cloth, 'cloth', hides=True))
    if appearance.necklace is not None:
        chain = curve(np.array([[-0.58, 1.75], [-0.35, 1.98], [0, 2.12], [0.35, 1.98], [0.58, 1.75]]))
        layers.append(Layer([np.concatenate([chain, chain[::-1] + [0, 0.07]])], appearance.necklace, 'neck_l'))
    return layers


def ears(posed: PosedFace) -> list[Layer]:
    """Return ears and earrings."""
    layers, width = [], posed.shape.width
    for part, side in (('l_ear', -1), ('r_ear', 1)):
        ear = ellipse((side * 1.02 * width, 0.12), (0.14, 0.28))
        layers.append(Layer([posed.on(ear, -0.25)], posed.appearance.skin * 0.93, part, hides=True))
        if posed.appearance.earrings is not None:
            ring = ellipse((side * 1.06 * width, 0.5), (0.07, 0.12))
            layers.append(Layer([posed.on(ring, -0.25)], posed.appearance.earrings, 'ear_r'))
    return layers


def skin(posed: PosedFace) -> list[Layer]:
    """Return the face from the jaw to the crown, and the colour on the cheeks."""
    angle = np.linspace(0, np.pi, 25)[1:-1]
    forehead = posed.on(np.stack([posed.shape.width * np.cos(angle), -0.1 - 1.2 * np.sin(angle)], 1), 0.0)
    outline = np.concatenate([curve(posed.landmarks[:33], 2), forehead])
    layers = [Layer([outline], posed.appearance.skin, 'skin', hides=True)]
    if posed.appearance.makeup is not None:
        cheeks = [posed.on(ellipse((0.58 * side, 0.5), (0.22, 0.16))) for side in (-1, 1)]
        layers.append(Layer(cheeks, posed.appearance.makeup, alpha=0.3))
    return layers


def accessories(posed: PosedFace) -> list[Layer]:
    """Return what lies in front of the face: glasses, hair, hat and occluder."""
    appearance, layers = posed.appearance, []
    if appearance.glasses is not None:
        layers += _glasses(posed)
    if appearance.hair is not None:
        layers.append(Layer([_fringe(posed)], appearance.hair, 'hair', hides=True))
    if appearance.hat is not None:
        angle = np.linspace(0, np.pi, 20)
        crown = posed.on(np.stack([1.16 * np.cos(angle), -0.62 - np.sin(angle)], 1), -0.1)
        brim = posed.on(ellipse((0, -0.64), (1.4, 0.12)), 0.1)
        layers.append(Layer([crown], appearance.hat, 'hat', hides=True))
        layers.append(Layer([brim], appearance.hat * 0.7, 'hat', hides=True))
    if appearance.occluder is not None:
        raised = curve(np.array([[0.2, 4.0], [0.0, 0.7], [0.3, 0.15], [0.75, 0.1], [1.1, 0.5], [1.2, 4.0]]))
        side = np.sign(appearance.occluded)
        layers.append(Layer([raised * [side, 1] - [0.5 * appearance.occluded, 0]], appearance.occluder, hides=True))
    return layers


def _fringe(posed: PosedFace) -> np.ndarray:
    angle = np.linspace(0, np.pi, 24)
    dome = posed.on(np.stack([-1.1 * np.cos(angle), -0.1 - 1.3 * np.sin(angle)], 1), -0.2)
    parting = [posed.appearance.parting, -0.86]
    hairline = np.array(
        [[1, 0], [0.9, -0.45], [0.6, -0.72], parting, [-0.6, -0.72], [-0.9, -0.45], [-1, 0]],
    )
    return np.concatenate([dome, posed.on(curve(hairline))])


def _glasses(posed: PosedFace) -> list[Layer]:
    eye, layers = posed.shape.eye, []
    for side in (-1, 1):
        rim, lens = (posed.on(ellipse((side * eye, 0.03), radii), 0.28) for radii in ((0.33, 0.25), (0.28, 0.2)))
        layers.append(Layer([lens], np.array([0.75, 0.85, 0.95]), 'eye_g', alpha=0.25))
        layers.append(Layer([rim, lens], posed.appearance.glasses, 'eye_g'))
    gap = eye - 0.3
    bridge = posed.on([[-gap, -0.03], [gap, -0.03], [gap, 0.03], [-gap, 0.03]], 0.3)
    return [*layers, Layer([bridge], posed.appearance.glasses, 'eye_g')]
