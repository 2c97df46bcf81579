import numpy as np
import pytest

from sacro_ray.dataset.geometry import to_square


@pytest.mark.parametrize("shape", [(100, 300), (300, 100), (64, 64), (7, 5)])
@pytest.mark.parametrize("fit", ["pad", "stretch", "crop"])
def test_always_the_square_asked_for(shape, fit):
    assert to_square(np.full(shape, 200, np.uint8), 64, fit).shape == (64, 64)


def test_pad_keeps_the_aspect_ratio_and_fills_with_black():
    square = to_square(np.full((100, 300), 200, np.uint8), 96, "pad")
    assert (square[32:64] == 200).all()
    assert (square[:32] == 0).all()
    assert (square[64:] == 0).all()


def test_crop_keeps_the_middle():
    wide = np.zeros((50, 150), np.uint8)
    wide[:, 50:100] = 255
    assert (to_square(wide, 50, "crop") == 255).all()
