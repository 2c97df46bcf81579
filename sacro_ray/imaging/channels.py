"""What all pictures have in common: sizes that are decoded, colour channels that must be one grey channel, and which way is up."""

import numpy as np
import numpy.typing as npt

from sacro_ray.imaging.exclusion import ExcludedRadiograph

# The largest detectors have about 20 million pixels, a stitched whole-leg film about 60.
LARGEST_PIXELS = 100_000_000
# Three colour channels count as equal where they differ by more than this share of the grey scale in at most one pixel of a
# thousand: lossy compression in YCbCr leaves a level or two. 16 bits may hold 12, so there the scale is what occurs.
CHANNEL_TOLERANCE, COLOURED_SHARE = 4 / 255, 0.001
# TIFF 6.0 and EXIF 2.3, Orientation: 5 to 8 are transposed, then some are turned left to right, some top to bottom.
TRANSPOSED, LEFT_TO_RIGHT, TOP_TO_BOTTOM = {5, 6, 7, 8}, {2, 3, 6, 7}, {3, 4, 7, 8}

Values = npt.NDArray[np.unsignedinteger | np.signedinteger | np.floating]


def check_size(height: int, width: int) -> None:
    """Refuse pictures without pixels and decompression bombs, before they are decoded.

    Raises:
        ExcludedRadiograph: `zero_size` or `too_large`.
    """
    if height < 1 or width < 1:
        raise ExcludedRadiograph("zero_size")
    if height * width > LARGEST_PIXELS:
        raise ExcludedRadiograph("too_large", f"{width} x {height} pixels, at most {LARGEST_PIXELS} in all are decoded")


def one_channel(values: Values) -> Values:
    """Take (height, width, channels) with equal colour channels to (height, width); an alpha channel is left out.

    Raises:
        ExcludedRadiograph: `true_colour` where the channels differ.
    """
    if values.ndim == 2:
        return values
    colours = values if values.shape[2] != 2 else values[..., :1]
    colours = colours[..., :3]
    span = 255.0 if values.dtype == np.uint8 else _spread(colours)
    first = colours[..., 0].astype(np.float32)
    for other in range(1, colours.shape[2]):
        if np.mean(np.abs(colours[..., other] - first) > CHANNEL_TOLERANCE * span) > COLOURED_SHARE:
            raise ExcludedRadiograph("true_colour")
    return np.ascontiguousarray(colours[..., 0])


def upright(values: Values, orientation: int) -> Values:
    """The picture as a viewer shows it.

    Args:
        values: Shape (height, width), as stored.
        orientation: The file's, 1 to 8; any other is taken for 1, as stored.
    """
    if orientation in TRANSPOSED:
        values = values.T
    if orientation in LEFT_TO_RIGHT:
        values = values[:, ::-1]
    if orientation in TOP_TO_BOTTOM:
        values = values[::-1]
    return np.ascontiguousarray(values)


def _spread(values: Values) -> float:
    known = values[np.isfinite(values)]
    return float(known.max()) - float(known.min()) if known.size else 0.0


def highest(values: Values) -> int:
    """The highest value that the array's integer type can hold."""
    return int(np.iinfo(str(values.dtype)).max)
