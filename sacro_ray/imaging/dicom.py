"""One DICOM file: parsing, what its header allows, and the few things that its header says beside the pixels."""

import io
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import pydicom
from pydicom.filereader import read_dataset

from sacro_ray.imaging.channels import LARGEST_PIXELS, check_size
from sacro_ray.imaging.dicom_format import COLOURS, MONOCHROME
from sacro_ray.imaging.dicom_values import numbers, whole_number, word
from sacro_ray.imaging.exclusion import ExcludedRadiograph

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"  # and its multi-frame forms .1 to .4, PS3.4 B.5
LARGEST_DATASET = 2 * LARGEST_PIXELS + (64 << 20)  # bytes: 16-bit pixels, and room for a header
SEQUENCE_END = b"\xfe\xff\xdd\xe0\0\0\0\0"  # PS3.5 A.4
SIMULATED = "SIMULATED"  # written by sacro_ray.simulation into ImageComments and ManufacturerModelName

SQUARE_WITHIN = 0.01  # of a side: rounded spacings differ by this, and projection distorts by more
LARGEST_ASPECT = 3.0  # of real pixels; beyond it one of the two values is wrong

# What may leave a header, and the only values that may: anything else could be free text.
# fmt: off
ALLOWED_HEADER: dict[str, set[str]] = {
    "Modality": {"CR", "DX", "RF", "RG", "SC", "OT", "MG", "PX", "IO", "XA"},
    "PhotometricInterpretation": MONOCHROME | COLOURS,
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
    data = _without_older_file_meta(data)
    dataset, is_cut = _parsed(data)
    if is_cut:
        # All items may be there, and only what says that no more follow is missing: `one_frame` sees whether they are whole.
        dataset, is_cut = _parsed(data + SEQUENCE_END)
        if is_cut or "PixelData" not in dataset:
            raise ExcludedRadiograph("truncated", "the file ends too early")
    if not dataset:
        raise ExcludedRadiograph("truncated" if data[128:132] == b"DICM" else "not_an_image", "no DICOM element could be read")
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit, little_endian = dataset.original_encoding
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.UID(
            "1.2.840.10008.1.2" if implicit else "1.2.840.10008.1.2.1" if little_endian else "1.2.840.10008.1.2.2"
        )
    return dataset


def _parsed(data: bytes) -> tuple[pydicom.Dataset, bool]:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        dataset = pydicom.dcmread(io.BytesIO(data), force=True)
    # pydicom drops what the end of the file cuts off, and says so in a warning only.
    return dataset, any("end of file" in str(warning.message).lower() for warning in said)


def _without_older_file_meta(data: bytes) -> bytes:
    """Group 2 ends where its length says (PS3.10, 7.1); one more, which an archive left in the data set, does not count.

    pydicom reads on as long as there is group 2, and would take the transfer syntax of the last.
    """
    start = 132 if data[128:132] == b"DICM" else 0
    if data[start : start + 6] != b"\x02\0\0\0UL":
        return data
    end = start + 12 + int.from_bytes(data[start + 8 : start + 12], "little")
    if data[end : end + 2] != b"\x02\0":
        return data
    # A length that is wrong, not a group that is there twice, where nothing is there twice.
    first, rest = io.BytesIO(data[start:end]), io.BytesIO(data[end:])
    metas = [read_dataset(f, False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2) for f in (first, rest)]
    return data[:end] + data[end + rest.tell() :] if set(metas[0].keys()) & set(metas[1].keys()) else data


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
            `zero_size` or `too_large`.
    """
    modality = word(dataset, "Modality")
    if modality not in modalities:
        raise ExcludedRadiograph("secondary_capture" if modality == "SC" else "wrong_modality")
    if word(dataset, "SOPClassUID").startswith(SECONDARY_CAPTURE) and "SC" not in modalities:
        raise ExcludedRadiograph("secondary_capture")
    if word(dataset, "BurnedInAnnotation") == "YES":
        raise ExcludedRadiograph("burned_in_annotation")
    if "PixelData" not in dataset or not dataset.PixelData:
        raise ExcludedRadiograph("no_pixel_data")
    if (whole_number(dataset, "NumberOfFrames") or 1) > 1:
        raise ExcludedRadiograph("multi_frame")
    check_size(whole_number(dataset, "Rows") or 0, whole_number(dataset, "Columns") or 0)


@dataclass(frozen=True)
class Facts:
    """What a header says beside the pixels.

    Attributes:
        spacing_mm: Row and column spacing, mm; None if unknown.
        aspect: A pixel's height over its width; 1 where they are equal or unknown.
        header: The few fields that may leave a file, where their value is one of the defined terms.
        simulated: The film was drawn by a program.
        notes: Remarks: `for_processing` (PS3.3 C.8.11.1.1.1: not meant to be looked at), `resampled_square`, `spoilt_pixel_shape`.
    """

    spacing_mm: tuple[float, float] | None
    aspect: float
    header: dict[str, str]
    simulated: bool
    notes: tuple[str, ...]


def facts(dataset: pydicom.Dataset) -> Facts:
    """Read what a header says beside the pixels."""
    notes = ("for_processing",) * (word(dataset, "PresentationIntentType") == "FOR PROCESSING")
    # Of the patient; else at the detector; else of the digitised film (PS3.3 10.7.1.1, C.8.1.1, C.8.6.1.1).
    pairs = [numbers(dataset, name) or [] for name in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")]
    spacing = next(((pair[0], pair[1]) for pair in pairs if len(pair) == 2 and all(0 < side < 100 for side in pair)), None)
    shape = spacing or tuple(numbers(dataset, "PixelAspectRatio") or ())
    aspect = shape[0] / shape[1] if len(shape) == 2 and min(shape) > 0 else 1.0
    if not 1 / LARGEST_ASPECT <= aspect <= LARGEST_ASPECT:
        spacing, aspect, notes = None, 1.0, (*notes, "spoilt_pixel_shape")
    elif abs(aspect - 1) <= SQUARE_WITHIN:
        aspect = 1.0
    else:
        notes = (*notes, "resampled_square")
    found = {name: word(dataset, name) for name in ALLOWED_HEADER}
    header = {name: value for name, value in found.items() if value in ALLOWED_HEADER[name]}
    simulated = any(word(dataset, name) == SIMULATED for name in ("ImageComments", "ManufacturerModelName"))
    return Facts(spacing, aspect, header, simulated, notes)
