"""TIFF, PNG and JPEG files, 8 or 16 bit, as one grey array."""

import contextlib
import io
import re
import warnings

import imagecodecs
import numpy as np
from PIL import Image, UnidentifiedImageError

from sacro_ray.imaging import tiff
from sacro_ray.imaging.channels import Values, check_size, one_channel, upright
from sacro_ray.imaging.codestream import codestream, with_other_tail
from sacro_ray.imaging.exclusion import ExcludedRadiograph

PNG_START, JPEG_START = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
PICTURE_STARTS = (PNG_START, JPEG_START, *tiff.STARTS)
ORIENTATION = 274
# The frame header of a JPEG with Huffman codes, 8 bits, one or three components (ISO/IEC 10918-1, B.2.2).
HUFFMAN_FRAME = re.compile(rb"\xff[\xc0-\xc2]\0[\x0b\x11]\x08")
# A reduced version that a camera keeps behind its picture (CIPA DC-007, 5.2.3.3.1).
REDUCED = "Large Thumbnail"
# Chunks of a PNG that its picture depends on though a reader may pass them over: transparency, animation, orientation.
NEEDED_CHUNKS = {b"tRNS", b"acTL", b"fcTL", b"fdAT", b"eXIf"}
# Where ImageMagick kept EXIF before there was eXIf, and the bytes that EXIF may have: 64 KiB in a JPEG, two digits a byte.
EXIF_TEXTS, LARGEST_EXIF_TEXT = (b"Raw profile type exif\0", b"Raw profile type APP1\0"), 1 << 18


def read_picture(data: bytes) -> tuple[Values, tuple[str, ...]]:
    """Decode a TIFF, PNG or JPEG file.

    Returns:
        Shape (height, width), upright as viewers show it, bone bright where the file says what white is; uint8 or uint16, or what
        a TIFF holds. And remarks: `turned` where the file said that it is stored in another orientation.

    Raises:
        ExcludedRadiograph: `not_an_image`, `truncated`, `multi_frame`, `true_colour`, `zero_size`, `too_large` or
            `unsupported_pixels`. Whatever else a decoder raises passes through.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        values, orientation = tiff.read_tiff(data) if data.startswith(tiff.STARTS) else _read_with_pillow(data)
    return (upright(values, orientation), ("turned",)) if 2 <= orientation <= 8 else (values, ())


def _read_with_pillow(data: bytes) -> tuple[Values, int]:
    """Values and orientation of a PNG or JPEG file."""
    data = _without_metadata(data) if data.startswith(PNG_START) else data
    try:
        with Image.open(io.BytesIO(data), formats=["PNG", "JPEG"]) as image:
            check_size(image.height, image.width)
            if _frames(image) > 1:
                raise ExcludedRadiograph("multi_frame")
            image.load()
            orientation = _orientation(image)
            if data.startswith(PNG_START) and data[24] == 16 and image.mode in ("RGB", "RGBA", "LA"):
                # Pillow drops the lower byte.
                values = imagecodecs.png_decode(data)
            else:
                plain = image.mode in ("L", "I;16", "I;16B", "I", "F", "LA", "RGB", "RGBA")
                values = np.asarray(image if plain else image.convert("L" if image.mode == "1" else "RGB"))
    except Image.DecompressionBombError:
        raise ExcludedRadiograph("too_large") from None
    except UnidentifiedImageError:
        raise ExcludedRadiograph("not_an_image") from None
    except OSError as error:
        if "truncated" in str(error).lower():
            raise ExcludedRadiograph("truncated") from None
        raise
    _refuse_cut_jpeg(data, values)
    return one_channel(values), orientation


def _refuse_cut_jpeg(data: bytes, values: Values) -> None:
    """Refuse a JPEG whose data end before its picture does, if properly: libjpeg fills the rest with one level, and tells nobody.

    Such a picture has a last row of one level. So have many others: the encoder of JPEG XL reads a JPEG strictly to pack it without
    loss. It takes about 60 ms and 20 MB for a million pixels. It also refuses a damaged colour profile, or much behind the picture;
    so what it refuses is cut only if bits put behind its data change the picture.
    """
    if (values[-1] == values[-1, -1]).all() and data.startswith(JPEG_START) and HUFFMAN_FRAME.search(data):
        try:
            imagecodecs.jpegxl_encode_jpeg(data)
        except imagecodecs.JpegxlError:
            if not _is_whole(data):
                raise ExcludedRadiograph("truncated", "the JPEG's data end before its picture does") from None


def _is_whole(data: bytes) -> bool:
    one, other = (_decoded(frame) for frame in (codestream(data), with_other_tail(codestream(data))))
    return np.array_equal(one, other)


def _decoded(frame: bytes) -> Values:
    with Image.open(io.BytesIO(frame), formats=["JPEG"]) as image:
        return np.asarray(image)


def _orientation(image: Image.Image) -> int:
    """The file's own word on how it is to be turned; EXIF that cannot be read says nothing."""
    image.info.pop("xmp", None)  # Pillow would take the orientation from there, which viewers do not
    with contextlib.suppress(Exception):
        return int(image.getexif().get(ORIENTATION, 1))
    return 1


def _frames(image: Image.Image) -> int:
    entries = getattr(image, "mpinfo", {}).get(0xB002, ())
    reduced = sum(entry["Attribute"]["MPType"].startswith(REDUCED) for entry in entries)
    return int(getattr(image, "n_frames", 1) - reduced)


def _without_metadata(data: bytes) -> bytes:
    """A PNG file without colour profile and texts: Pillow refuses the picture where these are large or damaged."""
    kept, place = [data[:8]], 8
    while place + 12 <= len(data):
        length, kind = int.from_bytes(data[place : place + 4], "big"), data[place + 4 : place + 8]
        optional = kind[0] & 0x20
        exif = length <= LARGEST_EXIF_TEXT and data.startswith(EXIF_TEXTS, place + 8)
        end = place + 12 + length
        if not optional or kind in NEEDED_CHUNKS or exif or end > len(data):
            kept.append(data[place:end])
        place = end
    return b"".join([*kept, data[place:]])
