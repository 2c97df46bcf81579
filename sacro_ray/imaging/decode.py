"""Any radiograph file to one grey image: the only way in, for `prepare` and `score` alike."""

import hashlib
import stat
import struct
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32, VR

from sacro_ray.config import Prepare
from sacro_ray.imaging import dicom
from sacro_ray.imaging.channels import Values
from sacro_ray.imaging.collimation import exposed_box
from sacro_ray.imaging.dicom_greys import grey_curve
from sacro_ray.imaging.dicom_pixels import StoredPixels, stored_pixels
from sacro_ray.imaging.dicom_values import guarded
from sacro_ray.imaging.exclusion import ExcludedRadiograph, one_file_alone
from sacro_ray.imaging.greyscale import Grey, equalise, in_sixteen_bits, robust_range, stretch
from sacro_ray.imaging.picture import PICTURE_STARTS, read_picture

IMAGE_ENDINGS = {".dcm", ".dicom", ".dic", ".ima", ".tif", ".tiff", ".png", ".jpg", ".jpeg"}
VRS = {str(vr) for vr in VR}
# Enough for the first elements of a data set: character set, image type, creation date.
HEAD_BYTES = 1024

Box = tuple[int, int, int, int]

__all__ = ["Box", "ExcludedRadiograph", "Radiograph", "check_radiograph", "looks_like_image", "read_radiograph"]


@dataclass(frozen=True)
class Radiograph:
    """A radiograph, ready to be stored.

    Attributes:
        pixels: uint8, shape (height, width), MONOCHROME2 sense (bone bright), longest side at most `store_size`.
        spacing_mm: Row and column spacing of `pixels`, mm; None where the file does not say.
        greyscale: What was really applied: `window`, `voi_lut`, `percentile` or `stored` (8-bit pictures as they are),
            with `+clahe` where asked.
        notes: Remarks such as `no_window`, `spoilt_window` or `turned`.
        box: Left, top, right, bottom of what was kept, pixels of the file's image as a viewer shows it, right and bottom exclusive.
        source_size: Height and width of the file's image as a viewer shows it, pixels.
        header: The allowed DICOM header fields, by keyword.
        simulated: The header says that a program drew it.
        stored_sha256: See `stored_digest`; blank where it was not asked for.
    """

    pixels: Grey
    spacing_mm: tuple[float, float] | None
    greyscale: str
    notes: tuple[str, ...]
    box: Box
    source_size: tuple[int, int]
    header: dict[str, str] = field(default_factory=dict)
    simulated: bool = False
    stored_sha256: str = ""


def looks_like_image(path: str | Path) -> bool:
    """Whether a file has a known image ending or is DICOM by its first bytes. What is no regular file is never opened."""
    path = Path(path)
    if path.suffix.lower() in IMAGE_ENDINGS:
        return True
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return False
        with path.open("rb") as file:
            return _starts_like_dicom(file.read(HEAD_BYTES))
    except OSError:
        return False


def _starts_like_dicom(head: bytes) -> bool:
    """Whether a file's first bytes are DICOM's preamble or, without one, two elements of a data set that begins with group 2 or 8."""
    return head[128:132] == b"DICM" or _starts_with_elements(head, "<") or _starts_with_elements(head, ">")


def _starts_with_elements(head: bytes, order: str) -> bool:
    """Tags that rise, value representations that exist, lengths that are even and small (PS3.5, 7.1)."""
    place, last, found = 0, -1, 0
    while found < 2 and place + 12 <= len(head):
        group, element, vr = struct.unpack_from(f"{order}HH2s", head, place)
        explicit, wide = vr.decode("latin-1") in VRS, vr.decode("latin-1") in EXPLICIT_VR_LENGTH_32
        start = place + 4 + (4 if wide else 2 if explicit else 0)
        (length,) = struct.unpack_from(f"{order}{'H' if explicit and not wide else 'I'}", head, start)
        tag = group << 16 | element
        if (last < 0 and group not in (2, 8)) or tag <= last or length % 2 or length > len(head):
            return False
        place, last, found = start + (2 if explicit and not wide else 4) + length, tag, found + 1
    return found == 2


def _opened(data: bytes, settings: Prepare) -> pydicom.Dataset | None:
    """The data set of a DICOM file whose header allows it, or None where the bytes are a picture's."""
    if not data:
        raise ExcludedRadiograph("empty_file")
    # DICOM first: the preamble of a dual-purpose file is a TIFF header (PS3.10, 7.1).
    if data[128:132] != b"DICM" and data.startswith(PICTURE_STARTS):
        return None
    if not dicom.is_dicom(data[:132]):
        raise ExcludedRadiograph("not_an_image")
    with guarded():
        dataset = dicom.open_dicom(data)
        dicom.check_header(dataset, settings.modalities)
    return dataset


@one_file_alone()
def check_radiograph(data: bytes, settings: Prepare) -> None:
    """Refuse what the first bytes and the header of a file alone rule out; no pixel is decoded.

    Raises:
        ExcludedRadiograph: As `read_radiograph` would.
    """
    _opened(data, settings)


@one_file_alone()
def read_radiograph(
    data: bytes, settings: Prepare, box: Box | None = None, plain: bool = False, digest: bool = False
) -> Radiograph:
    """Decode, crop, bring to 8 grey levels and to the stored size.

    Args:
        data: The bytes of a DICOM, TIFF, PNG or JPEG file.
        settings: `greyscale`, `window`, `crop`, `modalities` and `store_size` count here.
        box: Left, top, right, bottom of the table's crop in pixels of the file's image as a viewer shows it; used with
            crop = "table" and crop = "collimation" (which then cuts further).
        plain: Show the full range of the values instead of what `greyscale` asks for: the other half of a contact sheet.
        digest: Fill in `stored_sha256`, which takes 12 ms for four million pixels.

    Raises:
        ExcludedRadiograph: It cannot be used; `reason` says why.
    """
    remarks: tuple[str, ...] = ()
    dataset, film = _opened(data, settings), None
    if dataset is None:
        values, remarks = read_picture(data)
    else:
        film = _read_film(dataset)
        values, remarks = film.stored.values, film.facts.notes
    height, width = values.shape
    kept = box if box is not None and settings.crop != "none" else (0, 0, width, height)
    left, top, right, bottom = kept
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise ExcludedRadiograph("crop_outside", f"the image is {width} x {height} pixels")
    pixels, way, notes = _to_grey(values[top:bottom, left:right], film, settings, plain)
    if settings.crop == "collimation":
        x0, y0, x1, y1 = exposed_box(pixels)
        pixels, kept = pixels[y0:y1, x0:x1], (left + x0, top + y0, left + x1, top + y1)
    if pixels.min() == pixels.max():
        raise ExcludedRadiograph("blank")
    stored = _fit(pixels, settings.store_size, film.facts.aspect if film else 1.0)
    if settings.greyscale == "clahe" and not plain:
        stored, way = equalise(stored), f"{way}+clahe"
    spacing = film.facts.spacing_mm if film else None
    if spacing:
        spacing = (spacing[0] * pixels.shape[0] / stored.shape[0], spacing[1] * pixels.shape[1] / stored.shape[1])
    header, simulated = (film.facts.header, film.facts.simulated) if film else ({}, False)
    sha256 = stored_digest(values) if digest else ""
    return Radiograph(stored, spacing, way, (*remarks, *notes), kept, (height, width), header, simulated, sha256)


@dataclass(frozen=True)
class _Film:
    """What is read of a DICOM file before any crop."""

    dataset: pydicom.Dataset
    stored: StoredPixels
    facts: dicom.Facts


def _read_film(dataset: pydicom.Dataset) -> _Film:
    with guarded():
        return _Film(dataset, stored_pixels(dataset), dicom.facts(dataset))


def stored_digest(values: Values) -> str:
    """SHA-256 of size and stored values, before crop, grey levels and size are touched: a film is known again under another crop.

    Args:
        values: Shape (height, width), any number type; equal numbers of different types are equal.
    """
    digest = hashlib.sha256(f"{values.shape[0]} {values.shape[1]}\n".encode())
    kind = "<f8" if values.dtype.kind == "f" else "<i4" if _fits(values, np.int32) else "<i8"
    digest.update(values.astype(kind, order="C").data)
    return digest.hexdigest()


def _to_grey(values: Values, film: _Film | None, settings: Prepare, plain: bool) -> tuple[Grey, str, tuple[str, ...]]:
    """Grey levels of the stored values, how they came about, and remarks."""
    if film is None and (values.dtype.kind == "f" or values.dtype.itemsize > 2):
        values = in_sixteen_bits(values)
    first = int(values.min())
    span = int(values.max()) - first
    if span > 0xFFFF:
        raise ExcludedRadiograph("unsupported_pixels")
    index = (values.astype(np.int32) - first) if values.dtype != np.uint8 or first else values
    counts = np.bincount(index.ravel(), minlength=span + 1)
    levels = np.arange(first, first + span + 1, dtype=np.int64)
    grey: Grey | None = None
    way, curve = "percentile", None
    measured: np.ndarray = levels
    if film is not None:
        with guarded():
            curve = grey_curve(film.dataset, film.stored, levels, counts, settings.window)
    if curve is not None:
        counts, measured, grey, way = np.where(curve.empty, 0, counts), curve.measured, curve.grey, curve.way
    elif values.dtype == np.uint8:
        grey, way = levels.astype(np.uint8), "stored"
    if grey is None or settings.greyscale == "percentile":
        limits = robust_range(measured, counts)
        if limits is None:
            raise ExcludedRadiograph("blank")
        grey, way = stretch(measured, *limits), "percentile"
    if plain:
        present = measured[counts > 0]
        grey, way = stretch(measured, float(present.min()), float(present.max())), "full_range"
    if curve is None:
        return grey[index], way, film.stored.notes if film else ()
    shown = 255 - grey if curve.inverted else grey
    return np.where(curve.empty, np.uint8(0), shown)[index], way, curve.notes


def _fits(values: Values, kind: type[np.signedinteger]) -> bool:
    limits = np.iinfo(kind)
    return np.can_cast(values.dtype, kind) or bool(limits.min <= values.min() and values.max() <= limits.max)


def _fit(pixels: Grey, longest: int, aspect: float) -> Grey:
    """Square pixels, shrunk to the longest side, antialiased (Pillow widens the filter by the factor).

    Never enlarged, but for the coarser side of pixels that are not square: theirs are brought to the finer one.

    Args:
        pixels: Shape (height, width).
        longest: Of the result, pixels.
        aspect: A pixel's height over its width.
    """
    height, width = pixels.shape[0] * max(aspect, 1.0), pixels.shape[1] * max(1 / aspect, 1.0)
    factor = min(1.0, longest / max(height, width))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    if size == pixels.shape[::-1]:
        return np.ascontiguousarray(pixels)
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))
