"""What the robustness check does to the images."""

import numpy as np
import pytest

from sacro_ray.learning.perturbation import PERTURBATIONS, perturbed


@pytest.fixture
def images() -> np.ndarray:
    rng = np.random.default_rng(1)
    return rng.integers(0, 256, (3, 48, 64), dtype=np.uint8)


def test_each_keeps_shape_and_type_changes_something_and_is_the_same_twice(images):
    kept = images.copy()
    first, second = dict(perturbed(images)), dict(perturbed(images))
    assert list(first) == list(PERTURBATIONS)
    for name, changed in first.items():
        assert changed.shape == images.shape
        assert changed.dtype == np.uint8
        assert not np.array_equal(changed, images)
        assert np.array_equal(changed, second[name])
    assert np.array_equal(images, kept)


def test_a_bright_dot_turns_by_five_degrees_about_the_centre():
    dot = np.zeros((1, 101, 101), dtype=np.uint8)
    dot[0, 50, 90] = 255  # 40 px to the right of the centre
    row, column = np.unravel_index(dict(perturbed(dot))["rotation 5°"][0].argmax(), (101, 101))
    # Counter-clockwise: sin 5° x 40 = 3.5 px upwards, cos 5° x 40 = 39.8 px to the right.
    assert row in (46, 47)
    assert column in (89, 90)


def test_known_strengths():
    grey = np.full((1, 200, 200), 100, dtype=np.uint8)
    changed = dict(perturbed(grey))
    assert changed["noise, SD 5 % of the range"].std() == pytest.approx(0.05 * 255, rel=0.02)
    for name in ("blur, SD 1 px", "half the resolution", "contrast 0.8"):
        assert np.array_equal(changed[name], grey)  # a flat picture has nothing to lose
    halves = np.repeat(np.array([[[50, 150]]], dtype=np.uint8), 100, axis=1).repeat(50, axis=2)
    softened = dict(perturbed(halves))["contrast 0.8"]
    assert (softened.min(), softened.max()) == (60, 140)  # 100 -+ 0.8 x 50
    stripes = np.tile(np.array([0, 255], dtype=np.uint8), (1, 64, 32))
    assert dict(perturbed(stripes))["half the resolution"][0, 8:-8, 8:-8].std() < 20  # finer than the halved grid
