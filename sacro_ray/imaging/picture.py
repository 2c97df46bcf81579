"""TIFF, PNG and JPEG files, 8 or 16 bit, as one grey array."""

import io
import logging
import warnings

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image

from sacro_ray.imaging.exclusion import ExcludedRadiograph

# The largest detectors have about 20 million pixels, a stitched whole-leg film about 60.
LARGEST_PIXELS = 100_000_000
# Three colour channels count as equal where they differ by more than this in at most one pixel of a thousand:
# lossy compression in YCbCr leaves a level or two.
CHANNEL_TOLERANCE, COLOURED_SHARE = 4 / 255, 0.001

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
    span = _highest(values) if values.dtype.kind in "ui" else 1.0
    first = colours[..., 0].astype(np.float32)
    for other in range(1, colours.shape[2]):
        if np.mean(np.abs(colours[..., other] - first) > CHANNEL_TOLERANCE * span) > COLOURED_SHARE:
            raise ExcludedRadiograph("true_colour")
    return np.ascontiguousarray(colours[..., 0])


def read_picture(data: bytes) -> Values:
    """Decode a TIFF, PNG or JPEG file.

    Returns:
        Shape (height, width), bone bright where the file says what white is; uint8 or uint16, or what a TIFF holds.

    Raises:
        ExcludedRadiograph: `not_an_image`, `truncated`, `multi_frame`, `true_colour`, `zero_size` or `too_large`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("tifffile").setLevel(logging.CRITICAL + 1)
        if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            return _read_tiff(data)
        return _read_with_pillow(data)


def _read_with_pillow(data: bytes) -> Values:
    try:
        with Image.open(io.BytesIO(data), formats=["PNG", "JPEG", "MPO"]) as image:
            check_size(image.height, image.width)
            if getattr(image, "n_frames", 1) > 1:
                raise ExcludedRadiograph("multi_frame")
            image.load()
            plain = image.mode in ("L", "I;16", "I;16B", "I", "F", "LA", "RGB", "RGBA")
            values = np.asarray(image if plain else image.convert("L" if image.mode == "1" else "RGB"))
    except ExcludedRadiograph:
        raise
    except (Image.DecompressionBombError, MemoryError):
        raise ExcludedRadiograph("too_large") from None
    except OSError as error:
        reason = "truncated" if "truncated" in str(error) else "not_an_image"
        raise ExcludedRadiograph(reason) from None
    except (SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, OverflowError):
        raise ExcludedRadiograph("not_an_image") from None
    return one_channel(values)


def _read_tiff(data: bytes) -> Values:
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            if len(file.pages) != 1:
                raise ExcludedRadiograph("multi_frame" if len(file.pages) > 1 else "not_an_image")
            page = file.pages.first
            check_size(page.imagelength, page.imagewidth)
            if page.imagedepth > 1:
                raise ExcludedRadiograph("multi_frame")
            values = page.asarray()
            photometric, planes_first = int(page.photometric), page.planarconfig == tifffile.PLANARCONFIG.SEPARATE
            palette, bits = page.colormap, int(page.bitspersample)
    except ExcludedRadiograph:
        raise
    except MemoryError:
        raise ExcludedRadiograph("too_large") from None
    except Exception:
        raise ExcludedRadiograph("not_an_image", "the TIFF is damaged or of an unknown kind") from None
    if values.ndim == 3 and planes_first:
        values = np.moveaxis(values, 0, -1)
    if values.ndim not in (2, 3) or 0 in values.shape or values.dtype.kind not in "uifb":
        raise ExcludedRadiograph("unsupported_pixels")
    if values.dtype.kind == "b" or (bits < 8 and values.dtype == np.uint8):
        values = (values.astype(np.uint16) * 255 // (2**bits - 1)).astype(np.uint8)
    if photometric == tifffile.PHOTOMETRIC.PALETTE and palette is not None:
        values = np.moveaxis(np.asarray(palette), 0, -1)[values]
    values = one_channel(values)
    if photometric == tifffile.PHOTOMETRIC.MINISWHITE:
        values = _highest(values) - values if values.dtype.kind in "ui" else -values
    return values


def _highest(values: Values) -> int:
    """The highest value that the array's integer type can hold."""
    return int(np.iinfo(str(values.dtype)).max)
