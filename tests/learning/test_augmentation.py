import math

import pytest
import torch

from sacro_ray.config import Augmentation
from sacro_ray.learning.augmentation import CHANGES, DRAWS, as_input, augment, changes_from, draw, geometry, resample, warp

NOTHING = Augmentation(flip_probability=0.0, rotation_degrees=0.0, zoom=1.0, lighting=0.0, warp=0.0)


def test_zero_strength_is_the_identity():
    batch = torch.randint(0, 256, (3, 17, 17), dtype=torch.uint8)
    draws = draw(3, torch.Generator().manual_seed(0))
    assert torch.allclose(geometry(draws, NOTHING), torch.eye(3).expand(3, 3, 3), atol=1e-6)
    assert torch.allclose(augment(batch, changes_from(draws, NOTHING)), as_input(batch), atol=1e-5)


def test_certain_flip_mirrors_left_and_right():
    batch = torch.randint(0, 256, (2, 16, 16), dtype=torch.uint8)
    draws, certain = draw(2, torch.Generator().manual_seed(1)), NOTHING.model_copy(update={"flip_probability": 1.0})
    flipped = augment(batch, changes_from(draws, certain))
    assert torch.allclose(flipped, as_input(batch).flip(-1), atol=1e-5)


def test_a_point_lands_where_the_matrix_says():
    """A bright pixel at p appears at the output place q with homography(q) = p."""
    size, row, column = 65, 20, 45
    image = torch.zeros(1, 1, size, size)
    image[0, 0, row, column] = 1
    draws = torch.full((1, DRAWS), 0.5)
    draws[0, 1], draws[0, 2] = 1.0, 1.0  # full rotation, full zoom, centred
    settings = Augmentation(flip_probability=0.0, rotation_degrees=10.0, zoom=1.1, lighting=0.0, warp=0.0)
    matrix = geometry(draws, settings)
    moved = resample(image, matrix)[0, 0]
    found = divmod(int(moved.argmax()), size)
    p = torch.tensor([(column + 0.5) * 2 / size - 1, (row + 0.5) * 2 / size - 1, 1.0])
    q = torch.linalg.inv(matrix[0]) @ p
    expected = ((q[1] + 1) * size / 2 - 0.5, (q[0] + 1) * size / 2 - 0.5)
    assert abs(found[0] - expected[0]) <= 1
    assert abs(found[1] - expected[1]) <= 1
    # By hand: magnified 1.1 times and turned by 10 degrees about the middle.
    x, y, angle = float(p[0]), float(p[1]), math.radians(10)
    assert q[0] == pytest.approx(1.1 * (x * math.cos(angle) + y * math.sin(angle)), abs=1e-5)
    assert q[1] == pytest.approx(1.1 * (-x * math.sin(angle) + y * math.cos(angle)), abs=1e-5)


def test_warp_moves_the_corners_by_the_shift():
    shift = torch.tensor([[[0.1, 0.0], [0.0, -0.1], [0.05, 0.05], [-0.1, 0.1]]])
    corners = torch.tensor([[-1.0, -1.0, 1.0], [1.0, -1.0, 1.0], [1.0, 1.0, 1.0], [-1.0, 1.0, 1.0]])
    moved = corners @ warp(shift)[0].T
    assert torch.allclose(moved[:, :2] / moved[:, 2:], corners[:, :2] + shift[0], atol=1e-5)


def test_output_stays_in_range_at_full_strength():
    batch = torch.randint(0, 256, (8, 32, 32), dtype=torch.uint8)
    strong = Augmentation(rotation_degrees=45.0, zoom=2.0, lighting=0.9, warp=0.5)
    out = augment(batch, changes_from(draw(8, torch.Generator().manual_seed(2)), strong))
    assert torch.isfinite(out).all()
    assert 0 <= float(out.min()) <= float(out.max()) <= 1


def test_lighting_scales_about_the_mean_and_shifts():
    """By hand: contrast 1.5 about the mean of 0.4, then 0.1 brighter."""
    batch = torch.tensor([[[51, 102], [51, 204]]], dtype=torch.uint8)  # 0.2, 0.4, 0.2, 0.8: mean 0.4
    identity = torch.eye(3).flatten()
    numbers = torch.cat([identity, torch.tensor([0.1, 1.5])])[None]
    assert numbers.shape == (1, CHANGES)
    assert augment(batch, numbers).flatten().tolist() == pytest.approx([0.2, 0.5, 0.2, 1.0], abs=1e-5)  # 1.1 is cut off
