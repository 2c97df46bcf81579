import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sacro_ray.imaging.collimation import exposed_box


@settings(max_examples=40, deadline=None)
@given(
    borders=st.tuples(*[st.integers(0, 40)] * 4),
    level=st.sampled_from([0, 20, 250]),
    seed=st.integers(0, 5),
)
def test_uniform_borders_are_cut_to_the_pixel(borders, level, seed):
    left, top, right, bottom = borders
    rng = np.random.default_rng(seed)
    film = rng.integers(60, 220, (120, 100)).astype(np.uint8)
    height, width = top + 120 + bottom, left + 100 + right
    pixels = np.clip(level + rng.integers(-3, 4, (height, width)), 0, 255).astype(np.uint8)
    pixels[top : top + 120, left : left + 100] = film
    assert exposed_box(pixels) == (left, top, left + 100, top + 120)


def test_a_side_marker_in_the_border_does_not_hold_it():
    pixels = np.zeros((200, 200), dtype=np.uint8)
    pixels[50:150, 50:150] = np.random.default_rng(0).integers(60, 220, (100, 100))
    pixels[20:24, 20:24] = 255
    assert exposed_box(pixels) == (50, 50, 150, 150)


def test_a_picture_without_borders_or_without_film_is_left_whole():
    noise = np.random.default_rng(0).integers(0, 256, (50, 60)).astype(np.uint8)
    assert exposed_box(noise) == (0, 0, 60, 50)
    speck = np.zeros((100, 100), dtype=np.uint8)
    speck[50:55, 50:55] = 200
    assert exposed_box(speck) == (0, 0, 100, 100)
    assert exposed_box(np.zeros((9, 9), dtype=np.uint8)) == (0, 0, 9, 9)
