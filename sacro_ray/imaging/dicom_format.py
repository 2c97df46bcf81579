"""What a DICOM header says of the stored words: size, colour, bits, sign and padding; and how a word becomes a value."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom

from sacro_ray.imaging.dicom_values import numbers, required_number, whole_number, word
from sacro_ray.imaging.exclusion import ExcludedRadiograph

Words = npt.NDArray[Any]  # of integers

MONOCHROME = {"MONOCHROME1", "MONOCHROME2"}
COLOURS = {"RGB", "PALETTE COLOR", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"}


@dataclass(frozen=True)
class PixelFormat:
    """What a header says of the pixels (PS3.3 C.7.6.3), checked.

    Attributes:
        rows, columns: Size, pixels.
        samples: Channels, 1 or 3.
        photometric: Photometric interpretation, one of `MONOCHROME` or `COLOURS`.
        allocated: Bits of a stored word, 8 or 16.
        stored: Bits of it that hold the value.
        high: The highest of these, counted from 0.
        signed: Whether values are two's complement.
        planar: 1 where the channels lie one behind the other.
    """

    rows: int
    columns: int
    samples: int
    photometric: str
    allocated: int
    stored: int
    high: int
    signed: bool
    planar: int


def pixel_format(dataset: pydicom.Dataset) -> PixelFormat:
    """Read what decoding needs.

    Raises:
        ExcludedRadiograph: `damaged_header` where a needed value is missing or contradicts another, or `unsupported_pixels`.
    """
    photometric = word(dataset, "PhotometricInterpretation")
    if not photometric:
        raise ExcludedRadiograph("damaged_header", "PhotometricInterpretation is missing or cannot be read")
    allocated, stored, samples, sign = (
        required_number(dataset, name) for name in ("BitsAllocated", "BitsStored", "SamplesPerPixel", "PixelRepresentation")
    )
    if photometric not in MONOCHROME | COLOURS or allocated not in (8, 16) or samples not in (1, 3):
        raise ExcludedRadiograph("unsupported_pixels")
    if not 1 <= stored <= allocated or sign not in (0, 1):
        raise ExcludedRadiograph("damaged_header", "bits or sign of the pixels contradict each other")
    high = whole_number(dataset, "HighBit")
    return PixelFormat(
        rows=required_number(dataset, "Rows"),
        columns=required_number(dataset, "Columns"),
        samples=samples,
        photometric=photometric,
        allocated=allocated,
        stored=stored,
        high=high if high is not None and stored - 1 <= high < allocated else stored - 1,
        signed=sign == 1,
        planar=whole_number(dataset, "PlanarConfiguration") or 0,
    )


def as_coded(form: PixelFormat, bits: int, lossy: bool) -> PixelFormat:
    """The format of the decoded words.

    Args:
        form: What the header says.
        bits: How many bits of each word there are before decompression: those of the codestream, or all.
        lossy: Next to the highest value lossy values lie above it: no bit of the codestream may go, or white turns black.
    """
    if bits <= form.stored:
        return replace(form, high=form.stored - 1)  # the codestream holds the values themselves, wherever they lay before
    return replace(form, stored=bits, high=bits - 1) if lossy else form


def of_stored_bits(words: Words, form: PixelFormat) -> Words:
    """The bits from `high` downwards, `stored` of them, with their sign (PS3.5, 8.1.1); the same array where there are no others.

    Args:
        words: As decoded, in the pixels' sign.
        form: Their format.
    """
    width = 8 * words.dtype.itemsize
    if form.stored >= width:
        return words
    shifted: Words = (words << (width - min(form.high + 1, width))) >> (width - form.stored)
    return shifted


def has_other_bits(words: Words, values: Words, form: PixelFormat) -> bool:
    """Whether words have bits beside those of their values: neither empty nor a copy of the sign."""
    below = form.high + 1 - form.stored
    copied = values << below
    emptied = (values & ((1 << form.stored) - 1)) << below if form.signed else copied
    return bool(((words != copied) & (words != emptied) & (words != values)).any())


def padding_words(dataset: pydicom.Dataset, form: PixelFormat) -> tuple[tuple[int, int] | None, tuple[str, ...]]:
    """Lowest and highest padding word in the pixels' own sign, whatever sign it was written with; and a remark."""
    first, last = numbers(dataset, "PixelPaddingValue"), numbers(dataset, "PixelPaddingRangeLimit")
    if first == []:
        return None, ()
    last = first if last == [] else last
    if first is None or last is None or len(first) != 1 or len(last) != 1:
        return None, ("spoilt_padding",)
    low, high = sorted(_in_sign(int(value), form.allocated, form.signed) for value in (first[0], last[0]))
    return (low, high), ()


def _in_sign(value: int, bits: int, signed: bool) -> int:
    value %= 1 << bits
    return value - (1 << bits) if signed and value >= 1 << (bits - 1) else value


def with_padding(
    values: Words, words: Words, padding: tuple[int, int] | None, form: PixelFormat
) -> tuple[Words, tuple[int, int] | None]:
    """Padding that lies outside the stored bits keeps its own value; without its other bits it would be a grey of the picture."""
    if padding is None or all(_in_sign(limit, form.stored, form.signed) == limit for limit in padding):
        return values, padding
    is_padding = (words >= padding[0]) & (words <= padding[1])
    if is_padding.any():
        return np.where(is_padding, words, values), padding
    low, high = sorted(_in_sign(limit, form.stored, form.signed) for limit in padding)
    return values, (low, high)
