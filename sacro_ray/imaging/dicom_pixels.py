"""From the pixel data element of a DICOM file to the stored values, in the sense and the bits that the header gives them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np
import pydicom
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import Decoder, get_decoder
from pydicom.pixels.processing import apply_color_lut
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from sacro_ray.imaging.channels import Values, one_channel
from sacro_ray.imaging.codestream import END, codestream, one_frame, stated, with_other_tail
from sacro_ray.imaging.dicom_format import (
    PixelFormat,
    as_coded,
    has_other_bits,
    of_stored_bits,
    padding_words,
    pixel_format,
    with_padding,
)
from sacro_ray.imaging.exclusion import ExcludedRadiograph

JPEG = {JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1}
JPEG_2000 = {JPEG2000Lossless, JPEG2000, HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K}
# Plugins of pydicom, and imagecodecs (libjpeg-turbo), in the order in which they are tried. GDCM is not among them: damaged pictures
# end its process, or it never comes back (docs/preparation.md).
DECODERS = {
    RLELossless: ("pydicom",),
    JPEGBaseline8Bit: ("pillow", "imagecodecs"),
    JPEGExtended12Bit: ("imagecodecs",),
    JPEGLossless: ("imagecodecs",),
    JPEGLosslessSV1: ("imagecodecs",),
    **dict.fromkeys((JPEGLSLossless, JPEGLSNearLossless), ("pyjpegls",)),
    **dict.fromkeys(JPEG_2000, ("pylibjpeg",)),
}
LOSSY = {JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless, JPEG2000, HTJ2K}
MOST_ZEROS = 8  # bytes between the data of a JPEG-LS frame and its end marker


@dataclass(frozen=True)
class StoredPixels:
    """The stored values of a radiograph.

    Attributes:
        values: Shape (rows, columns): uint8, uint16, int8 or int16.
        format: What the header says of them.
        padding: Lowest and highest value that mean "no picture here" (PS3.3 C.7.5.1.1.2), or None.
        notes: Remarks: `unused_bits` (bits outside BitsStored are not empty), `spoilt_padding`.
    """

    values: Values
    format: PixelFormat
    padding: tuple[int, int] | None
    notes: tuple[str, ...]


def stored_pixels(dataset: pydicom.Dataset) -> StoredPixels:
    """Decode the pixels of a checked data set.

    Raises:
        ExcludedRadiograph: `damaged_header`, `unsupported_pixels`, `unknown_transfer_syntax`, `truncated`, `undecodable`,
            `multi_frame` or `true_colour`.
    """
    form = pixel_format(dataset)
    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise ExcludedRadiograph("unknown_transfer_syntax") from None
    if decoder.is_encapsulated:
        words, bits = _decompressed(decoder, syntax, dataset.PixelData, form)
    else:
        words, bits = _as_they_are(decoder, dataset, form), form.allocated
    if words.shape[:2] != (form.rows, form.columns):
        raise ExcludedRadiograph("undecodable", "the compressed picture has another size than the header says")
    form = as_coded(form, bits, syntax in LOSSY)
    words = words.astype(words.dtype.newbyteorder("="), copy=False).view(f"{'iu'[not form.signed]}{words.dtype.itemsize}")
    padding, notes = padding_words(dataset, form)
    values = of_stored_bits(words, form)
    if values is not words:
        values, padding = with_padding(values, words, padding, form)
        notes += ("unused_bits",) * has_other_bits(words, values, form)
    if form.photometric == "PALETTE COLOR":
        values = apply_color_lut(values, dataset)
    return StoredPixels(one_channel(values), form, padding, notes)


def _options(form: PixelFormat, photometric: str) -> dict[str, Any]:
    return {
        "rows": form.rows,
        "columns": form.columns,
        "samples_per_pixel": form.samples,
        "photometric_interpretation": photometric,
        "bits_allocated": form.allocated,
        "bits_stored": form.stored,
        "pixel_representation": int(form.signed),
        "planar_configuration": form.planar,
        "number_of_frames": 1,
        "pixel_keyword": "PixelData",
        "correct_unused_bits": False,
        "allow_excess_frames": False,
    }


def _as_they_are(decoder: Decoder, dataset: pydicom.Dataset, form: PixelFormat) -> Values:
    whole = form.rows * form.columns * form.samples * form.allocated // 8
    # Two pixels in four bytes (PS3.3 C.7.6.3.1.2), unless the name is wrong and there are six.
    is_halved = form.photometric == "YBR_FULL_422" and len(dataset.PixelData) < whole
    photometric = "YBR_FULL" if form.photometric == "YBR_FULL_422" and not is_halved else form.photometric
    needed = whole // 3 * 2 if is_halved else whole
    if len(dataset.PixelData) < needed:
        raise ExcludedRadiograph("truncated")
    if len(dataset.PixelData) >= max(2 * needed, needed + 2):
        raise ExcludedRadiograph("multi_frame")
    options = _options(form, photometric) | {"pixel_vr": dataset["PixelData"].VR}
    return decoder.as_array(dataset.PixelData, **options)[0]


def _decompressed(decoder: Decoder, syntax: str, data: bytes, form: PixelFormat) -> tuple[Values, int]:
    """The decoded values, and how many bits of each the codestream says it has."""
    frame = one_frame(data)
    said = stated(frame)
    if said is not None and (said.height, said.width) != (form.rows, form.columns):
        raise ExcludedRadiograph("undecodable", "the compressed picture has another size than the header says")
    if said is None and syntax in JPEG_2000:
        raise ExcludedRadiograph("undecodable", "the compressed pixels are not JPEG 2000")
    frame = codestream(frame)
    for name in DECODERS.get(pydicom.uid.UID(syntax), ("",)):
        decode = _with_imagecodecs if name == "imagecodecs" else _with_plugin(decoder, name, form)
        try:
            values = _without_zeros(decode, frame) if name == "pyjpegls" else decode(frame)
        except Exception:
            continue
        if syntax in JPEG and not _is_whole(decode, frame, values):
            raise ExcludedRadiograph("truncated", "the compressed picture ends too early")
        return values, said.bits if said is not None else form.allocated
    raise ExcludedRadiograph("undecodable")


def _with_plugin(decoder: Decoder, name: str, form: PixelFormat) -> Callable[[bytes], Values]:
    options = _options(form, form.photometric)
    return lambda frame: decoder.as_array(encapsulate([frame], has_bot=False), decoding_plugin=name, **options)[0]


def _with_imagecodecs(frame: bytes) -> Values:
    """JPEG of 8 to 16 bits, lossless too, and malformed scan headers that pydicom's plugins refuse."""
    values: Values = imagecodecs.jpeg8_decode(frame)
    return values


def _is_whole(decode: Callable[[bytes], Values], frame: bytes, values: Values) -> bool:
    try:
        return np.array_equal(decode(with_other_tail(frame)), values)
    except Exception:
        return False


def _without_zeros(decode: Callable[[bytes], Values], frame: bytes) -> Values:
    """Decode a JPEG-LS frame, less the zero bytes before its end marker that some encoders fill up with and CharLS refuses."""
    for _ in range(MOST_ZEROS):
        try:
            return decode(frame)
        except Exception:
            if not frame.endswith(b"\0" + END):
                break
            frame = frame[:-3] + END
    return decode(frame)
