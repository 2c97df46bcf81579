"""How a radiograph of any shape fills the square input of the network: one place, for training and for scoring."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Fit = Literal["pad", "stretch", "crop"]


def to_square(pixels: NDArray[np.uint8], size_px: int, fit: Fit) -> NDArray[np.uint8]:
    """Resize with antialiasing to (size_px, size_px).

    Args:
        pixels: uint8 (height, width), any size.
        size_px: Side of the square, pixels.
        fit: `pad` keeps the aspect ratio and fills with black (unexposed film), `crop` keeps it and cuts the longer side
            to its middle, `stretch` gives the aspect ratio up.
    """
    height, width = pixels.shape
    image = Image.fromarray(pixels)
    if fit == "stretch":
        return np.asarray(image.resize((size_px, size_px), Image.Resampling.BILINEAR))
    if fit == "crop":
        side = min(height, width)
        left, top = (width - side) / 2, (height - side) / 2
        box = (left, top, left + side, top + side)
        return np.asarray(image.resize((size_px, size_px), Image.Resampling.BILINEAR, box=box))
    scale = size_px / max(height, width)
    inner = (max(1, round(width * scale)), max(1, round(height * scale)))
    left, top = (size_px - inner[0]) // 2, (size_px - inner[1]) // 2
    square = np.zeros((size_px, size_px), dtype=np.uint8)
    square[top : top + inner[1], left : left + inner[0]] = np.asarray(image.resize(inner, Image.Resampling.BILINEAR))
    return square
