from dataclasses import replace

import cv2
import numpy as np
import pytest
from toy_data.faces import (
    MIRROR,
    Expression,
    Face,
    FaceCanvas,
    Light,
    Shape,
    draw_face,
    face_landmarks,
    project,
)

CENTER, HALF_WIDTH = (128.0, 118.0), 60.0
# Written down from the mark-up of WFLW: pairs of points that change places when left and right do.
PAIRS = [(i, 32 - i) for i in range(16)]
PAIRS += [(33, 46), (34, 45), (35, 44), (36, 43), (37, 42), (38, 50), (39, 49), (40, 48), (41, 47)]
PAIRS += [(55, 59), (56, 58), (60, 72), (61, 71), (62, 70), (63, 69), (64, 68), (65, 75), (66, 74), (67, 73)]
PAIRS += [(76, 82), (77, 81), (78, 80), (83, 87), (84, 86), (88, 92), (89, 91), (93, 95), (96, 97)]
# Landmarks that run round a part.
CONTOURS = {
    'l_brow': range(33, 42),
    'r_brow': [*range(42, 51)],
    'l_eye': range(60, 68),
    'r_eye': range(68, 76),
    'u_lip': [*range(76, 83), *range(92, 87, -1)],
    'l_lip': [82, 83, 84, 85, 86, 87, 76, 88, 95, 94, 93, 92],
    'mouth': range(88, 96),
}


def make_face(seed=0, attribute=None, appearance=None, **changes):
    face = draw_face(np.random.default_rng(seed), attribute, accessories=False)
    return replace(face, appearance=replace(face.appearance, **appearance or {}), **changes)


def paint(face, size=256):
    canvas = FaceCanvas((size, size), np.random.default_rng(0))
    return canvas, canvas.add(face, CENTER, HALF_WIDTH)


def masks_of(face):
    return paint(face)[1].part_masks((256, 256))


def polygon(points):
    return cv2.fillPoly(np.zeros((256, 256), np.uint8), [np.rint(points).astype(np.int32)], 1).astype(bool)


def iou(first, second):
    return (first & second).sum() / (first | second).sum()


def test_mirror_holds_the_pairs_of_wflw():
    expected = np.arange(98)
    for left, right in PAIRS:
        expected[[left, right]] = right, left
    np.testing.assert_array_equal(MIRROR, expected)
    assert sorted(np.flatnonzero(np.arange(98) == MIRROR)) == [16, 51, 52, 53, 54, 57, 79, 85, 90, 94]


@pytest.mark.parametrize('expression', [Expression(), Expression(smile=0.8, open=0.3, brow=0.1, eyes=1.3)])
def test_faces_are_symmetric(expression):
    points = face_landmarks(Shape(jaw=0.95, mouth_width=0.4), expression)
    np.testing.assert_allclose(points[MIRROR] * [-1, 1, 1], points, atol=1e-12)
    assert np.isfinite(points).all() and (np.abs(points[:, :2]).sum(1) > 0).all()


def test_mirroring_the_image_swaps_partners_in_every_pose():
    points = face_landmarks(Shape(), Expression(open=0.1))
    one, other = project(points, 25, 4, 10), project(points, -25, 4, -10)
    np.testing.assert_allclose(one[MIRROR] * [-1, 1], other, atol=1e-12)


def test_projection_is_a_rotation_seen_from_the_front():
    axes = np.eye(3)
    np.testing.assert_allclose(project(axes), axes[:, :2], atol=1e-12)
    cos, sin = np.cos(np.radians(30)), np.sin(np.radians(30))
    np.testing.assert_allclose(project(axes, yaw=30), [[cos, 0], [0, 1], [sin, 0]], atol=1e-12)
    np.testing.assert_allclose(project(axes, pitch=30), [[1, 0], [0, cos], [0, -sin]], atol=1e-12)
    np.testing.assert_allclose(project(axes, roll=30), [[cos, sin], [-sin, cos], [0, 0]], atol=1e-12)


def test_landmarks_stand_where_the_markup_has_them():
    points = face_landmarks(Shape(), Expression(open=0.2))[:, :2]
    x, y = points.T
    assert np.all(np.diff(x[:33]) > 0) and y[:33].argmax() == 16  # jaw from left to right round the chin
    assert np.all(np.diff(x[33:38]) > 0) and np.all(y[34:37] < y[[41, 40, 39]])  # brow: upper before lower edge
    assert x[60] == x[60:68].min() and x[64] == x[60:68].max() and y[62] < y[96] < y[66]
    assert x[72] == x[68:76].max() and y[70] < y[97] < y[74]
    assert np.all(np.diff(y[51:55]) > 0) and np.all(np.diff(x[55:60]) > 0) and y[57] > y[54]
    assert y[79] < y[90] < y[94] < y[85] and x[76] < x[88] < x[92] < x[82]
    assert y[33:51].max() < y[60:76].min() < y[60:76].max() < y[55:60].min() < y[76:96].min() < y[16]


@pytest.mark.parametrize('part', CONTOURS)
@pytest.mark.parametrize('yaw', [0, 35])
def test_landmarks_trace_the_part_masks(part, yaw):
    face = make_face(expression=Expression(open=0.3, eyes=1.3), yaw=yaw, appearance=dict(hair=None))
    painted = paint(face)[1]
    mask = painted.part_masks((256, 256))[part]
    traced = polygon(painted.landmarks[list(CONTOURS[part])])
    assert iou(mask, traced) > 0.75
    offset = np.argwhere(mask).mean(0) - np.argwhere(traced).mean(0)
    assert np.abs(offset).max() < 0.75


@pytest.mark.parametrize('yaw', [-40, -15, 0, 15, 40])
def test_points_lie_in_or_on_their_parts(yaw):
    painted = paint(make_face(yaw=yaw, expression=Expression(gaze=0.04), appearance=dict(hair=None)))[1]
    masks = painted.part_masks((256, 256))
    columns, rows = np.rint(painted.landmarks).astype(int).T
    assert masks['l_eye'][rows[96], columns[96]] and masks['r_eye'][rows[97], columns[97]]
    assert masks['nose'][rows[52:55], columns[52:55]].all()
    assert cv2.dilate(masks['skin'].astype(np.uint8), np.ones((5, 5)))[rows, columns].all()
    depth = cv2.distanceTransform(masks['skin'].astype(np.uint8), cv2.DIST_L2, 3)
    assert depth[rows[4:29], columns[4:29]].max() < 2.5  # the jaw is the border of the skin


def test_left_and_right_parts_lie_on_that_side_of_the_image():
    masks = masks_of(make_face(yaw=0))
    for part in ('brow', 'eye', 'ear'):
        assert np.nonzero(masks[f'l_{part}'])[1].mean() < CENTER[0] < np.nonzero(masks[f'r_{part}'])[1].mean()


def test_features_overlap_the_skin_but_hair_and_hat_hide_it():
    masks = masks_of(make_face(yaw=0, appearance=dict(hat=np.full(3, 0.5), hair=np.full(3, 0.2), long_hair=True)))
    for part in ('nose', 'l_eye', 'u_lip', 'r_brow'):
        assert (masks[part] & masks['skin']).sum() > 0.9 * masks[part].sum()
    for part in ('hair', 'hat', 'l_ear', 'neck', 'cloth'):
        assert (masks[part] & masks['skin']).sum() < 0.03 * masks['skin'].sum()  # they share some border pixels
    assert (masks['hat'] & masks['hair']).sum() < 0.03 * masks['hat'].sum()


def test_the_far_ear_disappears():
    areas = {yaw: masks_of(make_face(yaw=yaw, roll=0, appearance=dict(hair=None))) for yaw in (-42, 0, 42)}
    assert not areas[42].get('r_ear', np.zeros(1)).sum() > 0.3 * areas[0]['r_ear'].sum()
    assert areas[42]['l_ear'].sum() > areas[0]['l_ear'].sum()
    assert areas[-42]['r_ear'].sum() > areas[0]['r_ear'].sum()


def test_turning_moves_the_nose_to_that_side():
    def nose_offset(yaw):
        points = paint(make_face(yaw=yaw, roll=0))[1].landmarks
        return (points[54] - (points[60] + points[72]) / 2)[0] / np.linalg.norm(points[72] - points[60])

    assert nose_offset(35) > 0.2
    assert abs(nose_offset(0)) < 0.02
    assert nose_offset(-35) < -0.2


def test_expression_moves_the_landmarks():
    neutral, strong = face_landmarks(Shape(), Expression()), face_landmarks(Shape(), Expression(open=0.3, brow=0.1))
    assert strong[94, 1] - strong[90, 1] == pytest.approx(neutral[94, 1] - neutral[90, 1] + 0.3)
    np.testing.assert_allclose(strong[33:51, 1], neutral[33:51, 1] - 0.1)
    assert strong[16, 1] > neutral[16, 1]
    assert 'mouth' not in masks_of(make_face(expression=Expression()))
    assert masks_of(make_face(expression=Expression(open=0.3)))['mouth'].sum() > 150


def test_things_worn_appear_in_the_masks():
    color = np.full(3, 0.4)
    worn = dict(glasses=color, hat=color, earrings=color, necklace=color)
    bare, dressed = masks_of(make_face()), masks_of(make_face(appearance=worn | dict(hair=None)))
    assert not {'eye_g', 'hat', 'ear_r', 'neck_l'} & bare.keys()
    assert {'eye_g', 'hat', 'ear_r', 'neck_l'} <= dressed.keys()
    assert (dressed['eye_g'] & dressed['l_eye']).sum() == dressed['l_eye'].sum()


def test_an_occluder_hides_parts_but_not_landmarks():
    free, hidden = (
        paint(make_face(appearance=dict(occluder=color, occluded=0.3)))[1] for color in (None, np.full(3, 0.4))
    )
    np.testing.assert_array_equal(free.landmarks, hidden.landmarks)
    before, after = (painted.part_masks((256, 256)) for painted in (free, hidden))
    assert after['skin'].sum() < 0.85 * before['skin'].sum()
    assert after.get('l_lip', np.zeros(1)).sum() < before['l_lip'].sum()


def test_makeup_colours_lips_and_lids():
    plain, made_up = (make_face(attribute=attribute) for attribute in (None, 'makeup'))
    assert plain.appearance.makeup is None and made_up.appearance.makeup is not None
    saturation = [np.ptp(face.appearance.lips) / face.appearance.lips.max() for face in (plain, made_up)]
    assert saturation[1] > 0.5


def test_light_scales_and_tilts_the_image():
    canvas, _ = paint(make_face())
    rng = np.random.default_rng
    usual, dark = (canvas.render(Light(gain=gain), rng(0)) / 255 for gain in (0.8, 0.4))
    assert dark.mean() / usual.mean() == pytest.approx(0.5, abs=0.02)
    sided = canvas.render(Light(gain=0.8, side=-0.5), rng(0)) / 255
    ratio = sided.mean((0, 2)) / usual.mean((0, 2))
    np.testing.assert_allclose(ratio[[20, 128, 235]], 1 - 0.5 * np.linspace(-1, 1, 256)[[20, 128, 235]], atol=0.04)


def test_blur_takes_away_detail():
    canvas, _ = paint(make_face())
    sharp, soft = (cv2.Laplacian(canvas.render(Light(blur=b), np.random.default_rng(0)), cv2.CV_64F) for b in (0, 3))
    assert soft.var() < 0.5 * sharp.var()


def test_masks_keep_their_area_and_place_at_every_size():
    painted = paint(make_face())[1]
    large, small = painted.part_masks((256, 256))['skin'], painted.part_masks((128, 128))['skin']
    assert small.mean() == pytest.approx(large.mean(), rel=0.01)
    np.testing.assert_allclose(2 * np.argwhere(small).mean(0) + 0.5, np.argwhere(large).mean(0), atol=0.3)


def test_the_painted_iris_lies_at_the_pupil():
    face = make_face(
        yaw=0, appearance=dict(iris=np.array([0.0, 1.0, 0.0]), glasses=None), expression=Expression(eyes=1.4)
    )
    canvas, painted = paint(face)
    image = canvas.render(Light(), np.random.default_rng(0)).astype(int)
    green = (image[..., 1] - image[..., [0, 2]].max(2) > 80) & painted.part_masks((256, 256))['l_eye']
    np.testing.assert_allclose(np.argwhere(green).mean(0)[::-1], painted.landmarks[96], atol=1.0)


def test_neutral_defaults_make_a_face():
    appearance = make_face().appearance
    points = paint(Face(appearance))[1].landmarks
    np.testing.assert_allclose(points, face_landmarks(Shape(), Expression())[:, :2] * HALF_WIDTH + CENTER)
