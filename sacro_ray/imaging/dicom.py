"""One DICOM file: what its header allows, its stored values, and the curve from these to grey levels.

The order is the standard's own: modality LUT or rescale (PS3.3 C.11.1), VOI LUT or window (C.11.2), MONOCHROME1 inverted
(C.7.6.3.1.2). pydicom does each where it is asked properly.
"""

import contextlib
import io
import logging
import warnings
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.encaps import generate_frames
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi, apply_windowing
from pydicom.uid import (
    JPEG2000,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
)

from sacro_ray.imaging.channels import LARGEST_PIXELS, Values, check_size, one_channel
from sacro_ray.imaging.codestream import stated_size
from sacro_ray.imaging.exclusion import ExcludedRadiograph
from sacro_ray.imaging.greyscale import Counts, Grey, Levels, spoilt, stretch

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"  # and its multi-frame forms .1 to .4, PS3.4 B.5
COLOURS = {"RGB", "PALETTE COLOR", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"}
# Where several decoders read a syntax, not GDCM: 3 of 10,000 damaged files ended its process or never came back (docs/preparation.md).
DECODERS = {
    JPEGBaseline8Bit: "pillow",
    JPEGLSLossless: "pyjpegls",
    JPEGLSNearLossless: "pyjpegls",
    JPEG2000Lossless: "pylibjpeg",
    JPEG2000: "pylibjpeg",
}
LARGEST_DATASET = 2 * LARGEST_PIXELS + (64 << 20)  # bytes: 16-bit pixels, and room for a header
SIMULATED = "SIMULATED"  # written by sacro_ray.simulation into ImageComments and ManufacturerModelName

# What may leave a header, and the only values that may: anything else could be free text.
# fmt: off
ALLOWED_HEADER: dict[str, set[str]] = {
    "Modality": {"CR", "DX", "RF", "RG", "SC", "OT", "MG", "PX", "IO", "XA"},
    "PhotometricInterpretation": {"MONOCHROME1", "MONOCHROME2", *COLOURS},
    # PS3.3 C.7.3.1.1.2, and three terms of PS3.16 Annex L.
    "BodyPartExamined": {
        "ABDOMEN", "ANKLE", "ARM", "BREAST", "CHEST", "CLAVICLE", "COCCYX", "CSPINE", "ELBOW", "EXTREMITY", "FOOT", "HAND", "HEAD", "HEART",
        "HIP", "JAW", "KNEE", "LEG", "LSPINE", "NECK", "PELVIS", "SACRUM", "SHOULDER", "SIJOINT", "SKULL", "SSPINE", "TSPINE", "WRIST",
    },
    "ViewPosition": {"AP", "PA", "LL", "RL", "RLD", "LLD", "RLO", "LLO"},
    "ImageLaterality": {"R", "L", "U", "B"},
    "Laterality": {"R", "L"},
}
# fmt: on


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Read a header within: nothing that pydicom says about it, values included, reaches a log, a screen or an error.

    Raises:
        ExcludedRadiograph: `damaged_header` in place of whatever a damaged header made pydicom raise.
    """
    logger = logging.getLogger("pydicom")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except ExcludedRadiograph:
        raise
    except MemoryError:
        raise ExcludedRadiograph("too_large") from None
    except Exception:
        raise ExcludedRadiograph("damaged_header") from None
    finally:
        logger.setLevel(level)


def is_dicom(head: bytes) -> bool:
    """Whether these first bytes are a DICOM file's: the preamble, or a data set that starts with group 2 or 8."""
    if head[128:132] == b"DICM":
        return True
    return (head[:2] in (b"\x02\0", b"\x08\0") and head[3:4] == b"\0") or head[:3] in (b"\0\x02\0", b"\0\x08\0")


def open_dicom(data: bytes) -> pydicom.Dataset:
    """Parse a file, with or without preamble and file meta.

    Raises:
        ExcludedRadiograph: `not_an_image` or `truncated`.
    """
    _refuse_deflate_bomb(data)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        dataset = pydicom.dcmread(io.BytesIO(data), force=True)
    # pydicom drops what the end of the file cuts off, and says so in a warning only.
    if any("end of file" in str(warning.message).lower() for warning in said):
        raise ExcludedRadiograph("truncated", "the file ends too early")
    if not dataset:
        raise ExcludedRadiograph("truncated" if data[128:132] == b"DICM" else "not_an_image", "no DICOM element could be read")
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit, little_endian = dataset.original_encoding
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.UID(
            "1.2.840.10008.1.2" if implicit else "1.2.840.10008.1.2.1" if little_endian else "1.2.840.10008.1.2.2"
        )
    return dataset


def _refuse_deflate_bomb(data: bytes) -> None:
    """Pydicom inflates a deflated data set whole: count first, without keeping it, how much comes out."""
    if data[128:136] != b"DICM\x02\0\0\0" or b"1.2.840.10008.1.2.1.99" not in data[:4096]:
        return
    start = 144 + int.from_bytes(
        data[140:144], "little"
    )  # behind the file meta, whose length is its first element (PS3.10, 7.1)
    inflater, total, rest = zlib.decompressobj(-zlib.MAX_WBITS), 0, data[start:]
    try:
        while rest and not inflater.eof:
            total += len(inflater.decompress(rest, 1 << 20))
            rest = inflater.unconsumed_tail
            if total > LARGEST_DATASET:
                raise ExcludedRadiograph("too_large", "the deflated data set is too large")
    except zlib.error:
        raise ExcludedRadiograph("damaged_header", "the deflated data set is damaged") from None


def check_header(dataset: pydicom.Dataset, modalities: Sequence[str]) -> None:
    """Refuse what the header alone rules out, before anything is decoded.

    Raises:
        ExcludedRadiograph: `wrong_modality`, `secondary_capture`, `burned_in_annotation`, `no_pixel_data`, `multi_frame`,
            `zero_size`, `too_large` or `unsupported_pixels`.
    """
    modality = str(dataset.get("Modality", "") or "").strip().upper()
    if modality not in modalities:
        raise ExcludedRadiograph("secondary_capture" if modality == "SC" else "wrong_modality")
    if str(dataset.get("SOPClassUID", "")).startswith(SECONDARY_CAPTURE) and "SC" not in modalities:
        raise ExcludedRadiograph("secondary_capture")
    if str(dataset.get("BurnedInAnnotation", "")).strip().upper() == "YES":
        raise ExcludedRadiograph("burned_in_annotation")
    if "PixelData" not in dataset or not dataset.PixelData:
        raise ExcludedRadiograph("no_pixel_data")
    if int(dataset.get("NumberOfFrames", 1) or 1) > 1:
        raise ExcludedRadiograph("multi_frame")
    check_size(int(dataset.get("Rows", 0) or 0), int(dataset.get("Columns", 0) or 0))
    if dataset.get("BitsAllocated") not in (8, 16) or not 1 <= int(dataset.get("BitsStored", 0) or 0) <= dataset.BitsAllocated:
        raise ExcludedRadiograph("unsupported_pixels")


def stored_values(dataset: pydicom.Dataset) -> Values:
    """Decode the pixels of a checked data set.

    Returns:
        Shape (rows, columns), the stored values: uint8, uint16, int8 or int16.

    Raises:
        ExcludedRadiograph: `unknown_transfer_syntax`, `truncated`, `undecodable` or `true_colour`.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise ExcludedRadiograph("unknown_transfer_syntax") from None
    if not decoder.is_encapsulated:
        bits = dataset.Rows * dataset.Columns * int(dataset.get("SamplesPerPixel", 1)) * dataset.BitsAllocated
        if len(dataset.PixelData) < bits // 8:
            raise ExcludedRadiograph("truncated")
    else:
        _refuse_another_size(dataset)
    try:
        values, _ = decoder.as_array(dataset, decoding_plugin=DECODERS.get(syntax, ""))
    except Exception:
        values = _by_imagecodecs(dataset)
    if values.shape[:2] != (dataset.Rows, dataset.Columns):
        raise ExcludedRadiograph("undecodable", "the compressed picture has another size than the header says")
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        values = apply_color_lut(values, dataset)
    return one_channel(values)


def _refuse_another_size(dataset: pydicom.Dataset) -> None:
    try:
        frame = next(generate_frames(dataset.PixelData, number_of_frames=1))
    except Exception:
        raise ExcludedRadiograph("undecodable", "the compressed pixels are not in whole fragments") from None
    size = stated_size(frame)
    if size is not None and size != (dataset.Rows, dataset.Columns):
        raise ExcludedRadiograph("undecodable", "the compressed picture has another size than the header says")


def _by_imagecodecs(dataset: pydicom.Dataset) -> Values:
    """JPEG files that pydicom's decoders refuse: 12-bit extended JPEG, malformed scan headers."""
    if dataset.file_meta.TransferSyntaxUID not in (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1):
        raise ExcludedRadiograph("undecodable")
    try:
        frame = next(generate_frames(dataset.PixelData, number_of_frames=1))
        values: Values = imagecodecs.jpeg_decode(frame)
    except Exception:
        raise ExcludedRadiograph("undecodable") from None
    return values


def padding(dataset: pydicom.Dataset, levels: Levels) -> npt.NDArray[np.bool_]:
    """Which of the stored values mean "no picture here": PixelPaddingValue, to PixelPaddingRangeLimit (PS3.3 C.7.5.1.1.2)."""
    first = dataset.get("PixelPaddingValue")
    if first is None:
        return np.zeros(levels.shape, dtype=bool)
    last = dataset.get("PixelPaddingRangeLimit")
    limits = sorted((int(first), int(first if last is None else last)))
    return (levels >= limits[0]) & (levels <= limits[1])


def grey_curve(dataset: pydicom.Dataset, levels: Levels, counts: Counts, window: int) -> tuple[Levels, Grey | None, str]:
    """The header's own way from stored values to grey levels, before any inversion.

    Args:
        dataset: A data set with one grey channel.
        levels: Shape (n,), stored values, integers in rising order.
        counts: Shape (n,), how many pixels have each, padding not counted.
        window: Which of several windows or VOI LUTs; the first where there are fewer.

    Returns:
        The modality values of the levels; the grey levels, or None where the header has no usable way;
        and a word: `voi_lut`, `window`, `no_window` or `spoilt_window`.
    """
    wide = levels.astype(np.int32)
    modality = apply_modality_lut(wide, dataset).astype(np.float64)
    try:
        if dataset.get("VOILUTSequence"):
            index = window if window < len(dataset.VOILUTSequence) else 0
            descriptor = dataset.VOILUTSequence[index].LUTDescriptor
            curve = apply_voi(np.rint(modality).astype(np.int32), dataset, index)
            grey, way = stretch(curve, 0, 2 ** int(descriptor[2]) - 1), "voi_lut"
        elif dataset.get("WindowCenter") is not None and dataset.get("WindowWidth") is not None:
            several = dataset["WindowCenter"].VM
            # Two values beyond any window tell the range of pydicom's output: BitsStored and the rescale decide it.
            ends = np.concatenate([modality, [-1e12, 1e12]])
            with np.errstate(over="ignore"):
                curve = apply_windowing(ends, dataset, window if window < several else 0)
            grey, way = stretch(curve[:-2], float(curve[-2]), float(curve[-1])), "window"
        else:
            return modality, None, "no_window"
    except Exception:
        return modality, None, "spoilt_window"
    if spoilt(modality, grey, counts):
        return modality, None, "spoilt_window"
    return modality, grey, way


def spacing_mm(dataset: pydicom.Dataset) -> tuple[float, float] | None:
    """Row and column spacing in mm: PixelSpacing, else ImagerPixelSpacing at the detector (PS3.3 10.7.1); None if unknown."""
    for keyword in ("PixelSpacing", "ImagerPixelSpacing"):
        with contextlib.suppress(ValueError, TypeError):
            row, column = (float(value) for value in dataset.get(keyword) or ())
            if 0 < row < 100 and 0 < column < 100:
                return row, column
    return None


def allowed_header(dataset: pydicom.Dataset) -> dict[str, Any]:
    """The few header fields that may leave a file, where their value is one of the defined terms."""
    found = {name: str(dataset.get(name, "")).strip().upper() for name in ALLOWED_HEADER}
    return {name: value for name, value in found.items() if value in ALLOWED_HEADER[name]}


def is_simulated(dataset: pydicom.Dataset) -> bool:
    """Whether the header says that the film was drawn by a program."""
    return any(str(dataset.get(name, "")).strip().upper() == SIMULATED for name in ("ImageComments", "ManufacturerModelName"))
