"""A score as DICOM objects for the study it belongs to: a Secondary Capture of the overlay, and a Comprehensive SR."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import pydicom

from sacro_ray.imaging import dicom
from sacro_ray.imaging.dicom_values import guarded, silenced
from sacro_ray.imaging.picture import PICTURE_STARTS
from sacro_ray.imaging.remarks import familiarity_in_words, in_words
from sacro_ray.imaging.results_capture import Picture, secondary_capture
from sacro_ray.imaging.results_model import NOTICE, Model
from sacro_ray.imaging.results_report import structured_report
from sacro_ray.imaging.results_study import study_of


@dataclass(frozen=True)
class Objects:
    """The two DICOM files of a scored radiograph."""

    capture: bytes
    report: bytes


def is_dicom_file(data: bytes) -> bool:
    """Whether `read_radiograph` reads these bytes as DICOM."""
    return data[128:132] == b"DICM" or (not data.startswith(PICTURE_STARTS) and dicom.is_dicom(data[:132]))


def result_objects(
    data: bytes, picture: Picture, probability: float, remarks: Sequence[str], familiarity: float | None, model: Model
) -> Objects | None:
    """Secondary Capture and Comprehensive SR of a scored radiograph, in its study, with UIDs of their own.

    Args:
        data: The bytes of the DICOM file that was scored.
        picture: The overlay, uint8 (H, W, 3).
        probability: Of definite radiographic sacroiliitis.
        remarks: Flags of the radiograph, as in the column `quality` of scores.csv.
        familiarity: Percent, as in scores.csv, or None.
        model: What scored.

    Returns:
        Both as DICOM files (explicit VR little endian); None where the header lacks the UIDs that they have to refer to.

    Raises:
        ExcludedRadiograph: `damaged_header` and the like, with nothing from the header in it.
    """
    with silenced("highdicom"), guarded():
        source = study_of(dicom.open_dicom(data))
        if source is None:
            return None
        cautions = in_words(remarks)
        capture = secondary_capture(source, picture, probability, cautions, model)
        said = [NOTICE, *(f"Caution: {caution}" for caution in cautions), familiarity_in_words(familiarity)]
        report = structured_report(source, capture, probability, said, model)
        return Objects(_as_file(capture), _as_file(report))


def _as_file(dataset: pydicom.Dataset) -> bytes:
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()
