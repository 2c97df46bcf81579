"""Remarks on an image that a reader of its score should know; they change no score."""

import numpy as np
from numpy.typing import NDArray

from sacro_ray.imaging.decode import Radiograph
from sacro_ray.imaging.remarks import REMARKS

FRONTAL_VIEWS = {"AP", "PA"}
BODY_PARTS = {"PELVIS", "HIP", "SSPINE", "LSPINE", "SIJOINT", "SACRUM", "ABDOMEN"}
"""Body parts whose films show the sacroiliac joints, DICOM PS3.16 CID 4031 defined terms."""
LARGEST_WHITE_SHARE = 0.25
"""Share of pixels at the highest grey level above which detail is lost; collimated borders are black, not white."""
SMALLEST_RANGE = 32
"""Grey levels between the 2nd and the 98th percentile below which an image is nearly uniform."""


def quality_flags(radiograph: Radiograph, size_px: int) -> tuple[str, ...]:
    """Remarks on a file just read.

    Args:
        radiograph: As `read_radiograph` answers.
        size_px: Side of the network's input, pixels.

    Returns:
        Some of `view_not_frontal`, `one_side_only`, `other_body_part` (the header says so), the notes of reading that `REMARKS`
        has a sentence for (`spoilt_window` and the like), `simulated`, and those of `stored_quality_flags`.
    """
    header = radiograph.header
    found = []
    if header.get("ViewPosition", "AP") not in FRONTAL_VIEWS:
        found.append("view_not_frontal")
    if {header.get("ImageLaterality"), header.get("Laterality")} & {"L", "R"}:  # the latter in computed radiography
        found.append("one_side_only")
    if header.get("BodyPartExamined", "PELVIS") not in BODY_PARTS:
        found.append("other_body_part")
    found += [note for note in radiograph.notes if note in REMARKS]
    if radiograph.simulated:
        found.append("simulated")
    return (*found, *stored_quality_flags(radiograph.pixels, size_px))


def stored_quality_flags(pixels: NDArray[np.uint8], size_px: int) -> tuple[str, ...]:
    """Remarks on the pixels alone, uint8 (height, width): `small` (has to be enlarged), `saturated`, `low_contrast`."""
    found = []
    if max(pixels.shape) < size_px:
        found.append("small")
    if (pixels == 255).mean() > LARGEST_WHITE_SHARE:
        found.append("saturated")
    low, high = np.percentile(pixels, (2, 98))
    if high - low < SMALLEST_RANGE:
        found.append("low_contrast")
    return tuple(found)
