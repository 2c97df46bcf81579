"""The header's own way from stored values to grey levels.

The order is the standard's: modality LUT or rescale (PS3.3 C.11.1), VOI LUT or window (C.11.2), MONOCHROME1 inverted (C.7.6.3.1.2).
What cannot be used is passed over with a remark: of the VOI LUTs and windows the first that shows the picture counts.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pydicom

from sacro_ray.imaging.dicom_format import MONOCHROME
from sacro_ray.imaging.dicom_lut import LookUpTable, look_up, read_table
from sacro_ray.imaging.dicom_pixels import StoredPixels
from sacro_ray.imaging.dicom_values import numbers, word
from sacro_ray.imaging.exclusion import ExcludedRadiograph
from sacro_ray.imaging.greyscale import Counts, Grey, Levels, spoilt, stretch

# X-ray angiography and radiofluoroscopy, and the retired biplane angiography. Their Modality LUT leads back to the X-ray intensity and
# is not for display (PS3.3 C.8.7.1.1.2).
FLUOROSCOPY = {f"1.2.840.10008.5.1.4.1.1.12.{number}" for number in (1, 2, 3)}

LARGEST_VALUE = 1e15  # beyond it neighbours fall together, and no radiograph has such values

Present = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class GreyCurve:
    """What a header makes of the stored values that occur.

    Attributes:
        measured: Shape (n,), the modality values of the levels.
        grey: Shape (n,), their grey levels before any inversion; None where the header has no usable way.
        way: `voi_lut` or `window`, or blank.
        empty: Shape (n,), which levels are padding.
        inverted: The lowest value is meant to be white.
        notes: Remarks.
    """

    measured: Levels
    grey: Grey | None
    way: str
    empty: Present
    inverted: bool
    notes: tuple[str, ...]


def grey_curve(dataset: pydicom.Dataset, stored: StoredPixels, levels: Levels, counts: Counts, window: int) -> GreyCurve | None:
    """Follow the header.

    Args:
        dataset: The data set.
        stored: Its pixels.
        levels: Shape (n,), stored values, integers in rising order.
        counts: Shape (n,), how many pixels have each.
        window: Which of several windows or VOI LUTs; the first where there are fewer.

    Returns:
        The curve; None for colours, which have none.

    Raises:
        ExcludedRadiograph: `blank` where all pixels are padding.
    """
    if stored.format.photometric not in MONOCHROME:
        return None
    low, high = stored.padding or (1, 0)
    empty = (levels >= low) & (levels <= high)
    counts = np.where(empty, 0, counts)
    if not counts.any():
        raise ExcludedRadiograph("blank", "all pixels are padding")
    measured, notes = _modality_values(dataset, levels.astype(np.int64), counts > 0)
    grey, way = None, ""
    for name, table, curve in _ways(dataset, measured, counts > 0, window):
        if curve is not None and not spoilt(measured, curve, counts):
            grey, way = curve, name
            notes += () if table is None or table.is_as_stated else ("voi_lut_of_other_bits",)
            break
        notes += (f"spoilt_{name}",)
    if grey is None and not {"spoilt_voi_lut", "spoilt_window"} & set(notes):
        notes += ("no_window",)
    inverted = stored.format.photometric == "MONOCHROME1"
    shape = word(dataset, "PresentationLUTShape")
    if (shape, inverted) in {("INVERSE", False), ("IDENTITY", True)}:
        notes += ("polarity_unclear",)
    return GreyCurve(measured, grey, way, empty, inverted, tuple(dict.fromkeys(stored.notes + notes)))


def _modality_values(
    dataset: pydicom.Dataset, levels: npt.NDArray[np.int64], present: Present
) -> tuple[Levels, tuple[str, ...]]:
    """Modality LUT, else rescale, else the stored values; and a remark on what was passed over."""
    notes: tuple[str, ...] = ()
    tables = [] if word(dataset, "SOPClassUID") in FLUOROSCOPY else _items(dataset, "ModalityLUTSequence")
    for item in tables[:1]:
        table = read_table(item, _is_little_endian(dataset))
        found = look_up(table, levels, present) if table else None
        if found is not None and np.ptp(found[present]) > 0:
            return found.astype(np.float64), ()
        notes = ("spoilt_modality_lut",)
    slope, intercept = numbers(dataset, "RescaleSlope"), numbers(dataset, "RescaleIntercept")
    if slope and intercept and len(slope) == len(intercept) == 1 and slope[0] != 0:
        with np.errstate(over="ignore"):
            rescaled = levels.astype(np.float64) * slope[0] + intercept[0]
        if np.abs(rescaled).max() < LARGEST_VALUE:
            return rescaled, notes
    if slope != [] or intercept != []:
        notes += ("spoilt_rescale",)
    return levels.astype(np.float64), notes


def _ways(
    dataset: pydicom.Dataset, measured: Levels, present: Present, window: int
) -> Iterator[tuple[str, LookUpTable | None, Grey | None]]:
    """VOI LUTs, then windows, of each the wanted one first; None for the curve of one that cannot be used."""
    tables = _items(dataset, "VOILUTSequence")
    for place in _wanted_first(len(tables), window):
        table = read_table(tables[place], _is_little_endian(dataset))
        found = look_up(table, np.rint(measured).astype(np.int64), present) if table else None
        yield "voi_lut", table, stretch(found, 0, table.highest) if table and found is not None else None
    centres, widths = numbers(dataset, "WindowCenter"), numbers(dataset, "WindowWidth")
    if centres and widths:
        function = word(dataset, "VOILUTFunction") or "LINEAR"
        for place in _wanted_first(min(len(centres), len(widths)), window):
            yield "window", None, _windowed(measured, centres[place], widths[place], function)
    elif centres != [] or widths != []:
        yield "window", None, None


def _wanted_first(count: int, wanted: int) -> list[int]:
    return sorted(range(count), key=lambda place: place != wanted)


def _windowed(values: Levels, centre: float, width: float, function: str) -> Grey | None:
    """PS3.3 C.11.2.1.2 and C.11.2.1.3; None where the standard has no such window."""
    if function == "LINEAR":
        centre, width, least = centre - 0.5, width - 1, 0.0
    else:
        least = np.finfo(float).tiny
    if width < least or function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        return None
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        if function == "SIGMOID":
            return stretch(1 / (1 + np.exp(-4 * (values - centre) / width)), 0, 1)
        share = (values - centre) / width + 0.5
    share = np.where(values <= centre - width / 2, 0.0, np.where(values > centre + width / 2, 1.0, share))
    return stretch(share, 0, 1)


def _items(dataset: pydicom.Dataset, keyword: str) -> list[pydicom.Dataset]:
    """The items of a sequence; one empty item where the sequence cannot be read."""
    try:
        return list(dataset.get(keyword) or [])
    except Exception:
        return [pydicom.Dataset()]


def _is_little_endian(dataset: pydicom.Dataset) -> bool:
    return dataset.original_encoding[1] is not False
