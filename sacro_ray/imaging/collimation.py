"""Find the exposed field: cut the borders that no radiation reached."""

import numpy as np

from sacro_ray.imaging.greyscale import Grey

# Grey levels within which a border line counts as uniform: detector noise, not anatomy.
UNIFORM_LEVELS = 12
# A line belongs to the border while this share of its pixels is uniform; the rest may be a side marker.
UNIFORM_SHARE = 0.97
# The field is never cut to less than this share of a side: a picture that looks unexposed throughout is left whole.
SMALLEST_FIELD = 0.25


def exposed_box(pixels: Grey) -> tuple[int, int, int, int]:
    """The field inside uniform borders.

    Args:
        pixels: uint8, shape (height, width).

    Returns:
        Left, top, right, bottom in pixels, right and bottom exclusive; the whole image where the field would be under a
        quarter of a side.
    """
    height, width = pixels.shape
    top, bottom = _field(pixels)
    left, right = _field(pixels[top:bottom].T)
    if bottom - top < SMALLEST_FIELD * height or right - left < SMALLEST_FIELD * width:
        return 0, 0, width, height
    return left, top, right, bottom


def _field(lines: Grey) -> tuple[int, int]:
    """First and one past the last row that is not part of a uniform border."""
    first = _border(lines)
    if first == len(lines):
        return 0, len(lines)
    return first, len(lines) - _border(lines[::-1])


def _border(lines: Grey) -> int:
    """How many leading rows are as uniform as the first, at the first row's own level."""
    level = int(np.median(lines[0]))
    near = np.abs(lines.astype(np.int16) - level) <= UNIFORM_LEVELS
    is_border = near.mean(axis=1) >= UNIFORM_SHARE
    return int(np.argmin(is_border)) if not is_border.all() else len(lines)
