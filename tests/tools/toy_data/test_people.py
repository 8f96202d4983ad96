from dataclasses import replace

import numpy as np
import pytest
from toy_data.people import Camera, draw_cameras, draw_person, draw_size, draw_visits, render_person
from toy_data.people.figure import body_parts
from toy_data.people.identity import Cloth

RED, BLUE = np.array([0.8, 0.1, 0.1]), np.array([0.1, 0.2, 0.7])


class PlainCamera(Camera):
    """Always sees people from its usual side."""

    def draw_view(self, rng):
        return self.view


def make_camera(view='front', **changes):
    usual = dict(gain=np.ones(3), gamma=1.0, blur=0.01, noise=0.0)
    return PlainCamera(view=view, scene=np.full((96, 256, 3), 0.5, np.float32), **usual | changes)


def make_person(**changes):
    person = draw_person(np.random.default_rng(0))
    plain = dict(top=Cloth(RED, RED), bottom=Cloth(BLUE, BLUE), bag_kind='none', sleeve=1.0, bottom_kind='trousers')
    return replace(person, **plain | changes)


def render(person, camera, seed=0):
    return render_person(person, camera, np.random.default_rng(seed), jitter=0) / 255


@pytest.mark.parametrize('view', ['front', 'back', 'left', 'right'])
def test_clothes_keep_their_colour_from_every_side(view):
    image = render(make_person(), make_camera(view))
    flicker = image[2, 2, 0] / 0.5  # the background is grey, 0.5
    np.testing.assert_allclose(np.median(image[44:56, 31:33], axis=(0, 1)), RED * flicker, atol=0.02)
    legs = image[75:85].reshape(-1, 3)
    bluest = legs[np.argmax(legs[:, 2] - legs[:, 0])]
    np.testing.assert_allclose(bluest, BLUE * flicker, atol=0.02)


def test_left_view_mirrors_right_view():
    left, right = (render(make_person(), make_camera(view)) for view in ('left', 'right'))
    assert np.abs(left[:, ::-1] - right).mean() < 0.01 < np.abs(left - right).mean() / 2


def test_front_and_back_differ_in_the_face_alone():
    person = make_person(long_hair=False)
    front, back = (render(person, make_camera(view)) for view in ('front', 'back'))
    changed = np.flatnonzero(np.abs(front - back).max((1, 2)) > 0.02)
    assert len(changed) and changed.max() < 128 * 0.3


def test_exposure_follows_gain_and_gamma():
    camera = make_camera(gain=np.array([0.4, 0.8, 1.2]), gamma=2.0)
    gray = camera.expose(np.full((20, 20, 3), 0.5, np.float32), np.random.default_rng(0))[10, 10] / 255
    assert np.all(gray >= (0.92 * 0.5 * camera.gain) ** 2 - 0.003)
    assert np.all(gray <= (1.08 * 0.5 * camera.gain) ** 2 + 0.003)
    np.testing.assert_allclose(gray / gray[0], (camera.gain / camera.gain[0]) ** 2, rtol=0.05)


def test_noise_has_the_given_deviation():
    photo = make_camera(noise=0.03).expose(np.full((64, 64, 3), 0.5, np.float32), np.random.default_rng(0))
    assert (photo / 255).std() == pytest.approx(0.03, rel=0.05)


@pytest.mark.parametrize('pattern', ['plain', 'hoops', 'stripes', 'checks'])
def test_patterns_show_their_second_colour(pattern):
    cloth = Cloth(np.zeros(3), np.ones(3), pattern, period=0.05)
    x, y = np.meshgrid(np.linspace(0, 0.05, 101)[:-1], np.linspace(0.30, 0.40, 201)[:-1])
    share = (cloth.at(x.ravel(), y.ravel()) > 0).mean()
    assert share == pytest.approx(0.0 if pattern == 'plain' else 0.5, abs=0.03)


def test_build_and_step_change_the_outline():
    def width(view, step, **changes):
        points = np.concatenate([outline for outline, _ in body_parts(make_person(**changes), view, step)])
        return np.ptp(points[:, 0])

    assert width('front', 0, build=1.25) > 1.1 * width('front', 0, build=0.85)
    assert width('side', 1) > 1.5 * width('side', 0)


def test_photos_are_reproducible_and_vary():
    rng = np.random.default_rng(3)
    person, camera = draw_person(rng), draw_cameras(rng, 2)[1]
    first, same, other = (render_person(person, camera, np.random.default_rng(seed), (48, 96)) for seed in (0, 0, 1))
    assert first.shape == (96, 48, 3) and first.dtype == np.uint8
    np.testing.assert_array_equal(first, same)
    assert (first != other).mean() > 0.5


@pytest.mark.parametrize('images', [4, 8, 11])
def test_visits_share_the_images_among_at_least_two_cameras(images):
    for seed in range(20):
        cameras, counts = np.unique(draw_visits(np.random.default_rng(seed), 6, images), return_counts=True)
        assert 2 <= len(cameras) <= 5 and cameras.max() < 6
        assert counts.sum() == images and np.ptp(counts) <= 1


def test_sizes_stay_in_range_and_keep_the_shape():
    sizes = np.array([draw_size((100, 103), np.random.default_rng(seed)) for seed in range(40)])
    assert set(sizes[:, 1]) == {100, 101, 102, 103}
    np.testing.assert_array_equal(sizes[:, 0], sizes[:, 1] // 2)
