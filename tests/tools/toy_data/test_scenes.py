import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask
from toy_data import digits
from toy_data.class_images import KINDS, draw_class_image
from toy_data.digits import digit_matte
from toy_data.indoor_scenes import CEILING, FLOOR, FOCAL, SHAPE, _plane_depths, draw_indoor_scene
from toy_data.polygons import mask_to_polygons, run_lengths
from toy_data.scenes import draw_background, draw_scene, mask_box, paint
from toy_data.textures import color, noise, stripes, texture, to_uint8

from reprefine.tasks.classification.datasets.digits import mnist5k


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope='module')
def scenes():
    rng = np.random.default_rng(1)
    return [draw_scene(rng, rng.integers(10, size=4), (32, 80), draw_background(rng, (120, 160))) for _ in range(20)]


def rasterise(segmentation, shape):
    entries = coco_mask.frPyObjects(segmentation, *shape)
    return coco_mask.decode(coco_mask.merge(entries) if isinstance(entries, list) else entries).astype(bool)


@pytest.mark.parametrize('label', range(10))
def test_digit_has_the_size_asked_for(rng, label):
    matte = digit_matte(rng, label, 50)
    assert max(matte.shape) == 50
    assert min(matte.shape) >= 25
    assert matte.min() == 0
    assert matte.max() == 1
    x1, y1, x2, y2 = mask_box(matte > 0.5)
    assert max(x2 - x1, y2 - y1) >= 47


def test_digit_is_the_real_one(rng, monkeypatch):
    images, labels = mnist5k()
    monkeypatch.setattr(digits, 'mnist5k', lambda: (images[2000:2001], labels[2000:2001]))
    matte = digit_matte(rng, int(labels[2000]), 60)
    _, real = cv2.threshold(images[2000], 127, 1, cv2.THRESH_BINARY)
    x, y, width, height = cv2.boundingRect(real)
    small = cv2.resize(matte, (width, height), interpolation=cv2.INTER_AREA) > 0.5
    assert (small == real[y : y + height, x : x + width].astype(bool)).mean() > 0.9


def test_masks_are_disjoint_and_boxes_tight(scenes):
    for scene in scenes:
        assert len(scene.labels) == len(scene.masks) == len(scene.boxes)
        assert scene.masks.sum(0).max() == 1
        for mask, (x1, y1, x2, y2) in zip(scene.masks, scene.boxes, strict=True):
            rows, columns = np.nonzero(mask)
            assert (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) == (y1, y2, x1, x2)
    assert sum(len(scene.labels) for scene in scenes) > 40


def test_digits_stand_out_from_the_ground(scenes):
    for scene in scenes:
        grey = scene.image.mean(-1)
        near = [cv2.dilate(mask.astype(np.uint8), np.ones((7, 7))) > 0 for mask in scene.masks]
        background = ~scene.masks.any(0)
        for mask, around in zip(scene.masks, near, strict=True):
            assert abs(grey[mask].mean() - grey[around & background].mean()) > 25


def test_a_scene_without_free_space_stays_empty(rng):
    background = draw_background(rng, (30, 40))
    scene = draw_scene(rng, [1, 2], (60, 60), background)
    assert scene.boxes.shape == (0, 4)
    assert scene.masks.shape == (0, 30, 40)
    assert np.array_equal(scene.image, to_uint8(background))


def test_paint_mixes_by_opacity():
    image = np.full((3, 4, 3), 100, np.float32)
    mask = paint(image, np.array([[1, 0.25]]), np.array([200, 0, 100]), top=1, left=2)
    assert np.array_equal(image[1, 2:], [[200, 0, 100], [125, 75, 100]])
    assert np.array_equal(np.argwhere(mask), [[1, 2]])
    assert (image[[0, 2]] == 100).all()


def test_colours_keep_their_bounds(rng):
    drawn = np.stack([color(rng, (0.5, 0.6), hue=(-0.05, 0.05), saturation=(0.5, 1)) for _ in range(100)])
    assert drawn.max(1).min() >= 0.5 * 255
    assert drawn.max(1).max() <= 0.6 * 255
    assert (drawn.argmax(1) == 0).all()
    assert (drawn.min(1) <= 0.5 * drawn.max(1) + 1e-3).all()


def test_textures_lie_around_their_colour(rng):
    image = texture(rng, (200, 300), np.array([200, 100, 50], np.float32))
    assert image.shape == (200, 300, 3)
    np.testing.assert_allclose(image.mean((0, 1)), [200, 100, 50], atol=15)
    fine, coarse = (noise(rng, (200, 300), cell) for cell in (2, 50))
    assert np.abs(np.diff(fine)).mean() > 5 * np.abs(np.diff(coarse)).mean()


def test_stripes_have_their_period(rng):
    pattern = stripes(rng, (64, 64), period=8)
    spectrum = np.abs(np.fft.fft2(pattern))
    y, x = np.unravel_index(spectrum.argmax(), spectrum.shape)
    assert np.hypot(min(x, 64 - x), min(y, 64 - y)) == pytest.approx(64 / 8, abs=1)


def test_kinds_differ_in_digit_and_style(rng):
    images = [draw_class_image(rng, kind, (64, 80)) for kind in range(KINDS)]
    assert [int(image.labels[0]) for image in images] == [*range(10), *range(10)]
    brighter = [image.image[image.masks[0]].mean() > image.image.mean() for image in images]
    assert brighter == [True] * 10 + [False] * 10


def test_polygons_give_the_mask_back(scenes):
    holes = 0
    for mask in (mask for scene in scenes for mask in scene.masks):
        polygons = mask_to_polygons(mask)
        assert all(len(polygon) >= 6 and len(polygon) % 2 == 0 for polygon in polygons)
        assert np.array_equal(rasterise(polygons, mask.shape), mask)
        holes += cv2.connectedComponents(1 - mask.astype(np.uint8), connectivity=4)[0] > 2
    assert holes > 10


def test_run_lengths_give_the_mask_back(rng):
    for mask in (rng.random((7, 5)) < 0.5, np.ones((3, 2), bool), np.zeros((3, 2), bool)):
        encoded = run_lengths(mask)
        assert sum(encoded['counts']) == mask.size
        assert np.array_equal(rasterise(encoded, mask.shape), mask)
    assert run_lengths(np.array([[1, 0], [1, 1]], bool)) == dict(size=[2, 2], counts=[0, 2, 1, 1])


def test_planes_lie_where_they_should():
    floor, ceiling, left, right, back = _plane_depths(left=2, right=1.5, back=5)
    v, u = np.indices(SHAPE) - np.array([239.5, 319.5]).reshape(2, 1, 1)
    below, beside = v > 0, u > 0
    # The ray of pixel (u, v) reaches (u, v, f) * depth / f.
    np.testing.assert_allclose((v * floor / FOCAL)[below], FLOOR)
    np.testing.assert_allclose((v * ceiling / FOCAL)[~below], -CEILING)
    np.testing.assert_allclose((u * right / FOCAL)[beside], 1.5)
    np.testing.assert_allclose((u * left / FOCAL)[~beside], -2)
    np.testing.assert_allclose(back, 5)


def test_indoor_scenes_get_darker_with_depth(rng):
    for _ in range(4):
        scene = draw_indoor_scene(rng)
        assert scene.image.shape == (*SHAPE, 3)
        assert scene.depth.min() > 1.9
        assert scene.depth.max() <= 8
        brightness = scene.image.max(-1)
        assert np.corrcoef(scene.depth.ravel(), brightness.ravel())[0, 1] < -0.7
