"""A score as DICOM objects for the study it belongs to: a Secondary Capture of the overlay, and a Comprehensive SR.

The patient and the study are copied from the radiograph, for an archive files by them; nothing else of its header is. All codes are of
the standard's own schemes. Sources: DICOM PS3.3 A.8.1 (Secondary Capture), A.35.3 (Comprehensive SR); PS3.16 TID 1500 and TID 1501.
"""

import contextlib
import io
import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from highdicom import UID
from highdicom.sc import SCImage
from highdicom.sr import (
    AlgorithmIdentification,
    CodedConcept,
    ComprehensiveSR,
    DeviceObserverIdentifyingAttributes,
    FindingSite,
    ImageContentItem,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    QualitativeEvaluation,
    RelationshipTypeValues,
    SourceImageForMeasurementGroup,
    TextContentItem,
    TrackingIdentifier,
)
from PIL import Image, ImageDraw, ImageFont
from pydicom import config
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from pydicom.valuerep import validate_value

from sacro_ray.imaging import dicom
from sacro_ray.imaging.decode import PICTURE_STARTS

NOTICE = "For research use only; not for diagnosis."
MANUFACTURER = "sacro_ray"
SACROILIITIS = CodedConcept("M46.1", "I10", "Sacroiliitis, not elsewhere classified")
PRESENCE = CodedConcept("705057003", "SCT", "Presence")
PLAIN_RADIOGRAPHY = CodedConcept("168537006", "SCT", "Plain radiography")
CAPTURE_SERIES, REPORT_SERIES = 9001, 9002
"""Series numbers beyond those that a modality gives; the standard asks for none in particular."""
UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
COPIED = {
    "PatientName": "PN", "PatientID": "LO", "IssuerOfPatientID": "LO", "PatientBirthDate": "DA", "PatientSex": "CS",
    "PatientAge": "AS", "StudyDate": "DA", "StudyTime": "TM", "AccessionNumber": "SH", "ReferringPhysicianName": "PN",
    "StudyID": "SH", "StudyDescription": "LO", "DeidentificationMethod": "LO",
}  # fmt: skip
"""What says whose study it is, with value representations (PS3.6)."""
ALWAYS_THERE = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "AccessionNumber",
    "ReferringPhysicianName", "StudyID",
)  # fmt: skip
"""Of these the ones that have to be there, if need be empty (type 2, PS3.3 C.7.1.1 and C.7.2.1)."""
LOSSY = {"LossyImageCompression": "CS", "LossyImageCompressionRatio": "DS", "LossyImageCompressionMethod": "CS"}
SEXES, SIDES = {"M", "F", "O"}, {"R", "L"}

Picture = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Model:
    """What scored: the report names it.

    Attributes:
        run: Name of the run.
        checkpoint: SHA-256 of the weights, hexadecimal.
        version: Version of this program.
        cutoffs: Cut-off by name; called definite where probability >= cut-off.
    """

    run: str
    checkpoint: str
    version: str
    cutoffs: Mapping[str, float]


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
        remarks: Words on the image's quality, as in scores.csv.
        familiarity: Percent, as in scores.csv, or None.
        model: What scored.

    Returns:
        Both as DICOM files (explicit VR little endian); None where the header lacks the UIDs that they have to refer to.

    Raises:
        ExcludedRadiograph: `damaged_header` and the like, with nothing from the header in it.
    """
    with _silent(), dicom.guarded():
        source = _source(dicom.open_dicom(data))
        if source is None:
            return None
        capture = _secondary_capture(source, picture, probability, model)
        report = _structured_report(source, capture, probability, _remarks(remarks, familiarity), model)
        return Objects(_as_file(capture), _as_file(report))


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keep highdicom quiet: it quotes names and UIDs in its log and in warnings."""
    logger = logging.getLogger("highdicom")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _source(read: pydicom.Dataset) -> pydicom.Dataset | None:
    """What the new objects take from the radiograph; values that break the standard's rules are left empty, not passed on."""
    source = pydicom.Dataset()
    for keyword in UIDS:
        value = _valid(read, keyword, "UI")
        if not value:
            return None
        setattr(source, keyword, value)
    # Text was decoded by the source's character set and is encoded anew.
    source.SpecificCharacterSet = "ISO_IR 192"
    for keyword, vr in COPIED.items():
        value = _valid(read, keyword, vr)
        if keyword == "PatientSex" and value not in SEXES:
            value = ""
        if value or keyword in ALWAYS_THERE:
            setattr(source, keyword, value)
    # Type 1C: the flag stands with the method or not at all.
    if "DeidentificationMethod" in source and _valid(read, "PatientIdentityRemoved", "CS") == "YES":
        source.PatientIdentityRemoved = "YES"
    source.Rows, source.Columns = int(read.Rows), int(read.Columns)
    orientation = [str(part) for part in read.get("PatientOrientation") or ()]
    source.PatientOrientation = orientation if len(orientation) == 2 and all(map(_is_direction, orientation)) else ""
    side = _valid(read, "Laterality", "CS")
    source.Laterality = side if side in SIDES else ""
    # Once lossy, always lossy (PS3.3 C.7.6.1.1.5).
    lossy = {keyword: _valid(read, keyword, vr) for keyword, vr in LOSSY.items()}
    if lossy["LossyImageCompression"] == "01":
        for keyword, value in lossy.items():
            if value:
                setattr(source, keyword, value)
    if _valid(read, "BurnedInAnnotation", "CS") == "NO":
        source.BurnedInAnnotation = "NO"
    return source


def _valid(read: pydicom.Dataset, keyword: str, vr: str) -> str:
    """A header's single value as text; empty where it is absent, several, or against the rules of its value representation."""
    value = read.get(keyword)
    if value is None or isinstance(value, (pydicom.multival.MultiValue, list)):
        return ""
    text = str(value).strip()
    try:
        validate_value(vr, text, config.RAISE)
    except ValueError:
        return ""
    return text


def _is_direction(letters: str) -> bool:
    """Whether this is a value of PatientOrientation (PS3.3 C.7.6.1.1.1)."""
    return re.fullmatch(r"[APLRHF]{1,3}", letters) is not None


def _secondary_capture(source: pydicom.Dataset, picture: Picture, probability: float, model: Model) -> pydicom.Dataset:
    # A viewer shows this picture far from its report: it has to say by itself what it is.
    captioned = with_caption(picture, f"sacro_ray: probability {probability:.2f}", "RESEARCH USE ONLY, not for diagnosis")
    capture = SCImage.from_ref_dataset(
        ref_dataset=source,
        pixel_array=captioned,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        series_instance_uid=UID(),
        series_number=CAPTURE_SERIES,
        sop_instance_uid=UID(),
        instance_number=1,
        patient_orientation=("L", "F"),  # highdicom wants one; the source's follows
        transfer_syntax_uid=ExplicitVRLittleEndian,
        series_description="sacro_ray overlay, RESEARCH USE ONLY",
        **_equipment(model),
    )
    capture.PatientOrientation, capture.Laterality = source.PatientOrientation, source.Laterality
    capture.ConversionType = "WSD"
    for keyword in (*COPIED, "PatientIdentityRemoved", "BurnedInAnnotation", *LOSSY):
        if keyword in source:
            capture[keyword] = source[keyword]
    capture.DerivationDescription = f"Grad-CAM map of a neural network over the radiograph, resized. {NOTICE}"
    capture.ImageComments = NOTICE
    reference = pydicom.Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = source.SOPClassUID, source.SOPInstanceUID
    reference.PurposeOfReferenceCodeSequence = [CodedConcept.from_code(codes.DCM.SourceImageForImageProcessingOperation)]
    capture.SourceImageSequence = [reference]
    return capture


def _structured_report(
    source: pydicom.Dataset, capture: pydicom.Dataset, probability: float, remarks: str, model: Model
) -> pydicom.Dataset:
    observer = ObserverContext(
        observer_type=CodedConcept.from_code(codes.DCM.Device),
        observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
            # The same weights are the same device, wherever they run.
            uid=generate_uid(entropy_srcs=["sacro_ray model", model.checkpoint]),
            name=MANUFACTURER,
            manufacturer_name=MANUFACTURER,
            model_name=model.run,
        ),
    )
    content = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=observer),
        procedure_reported=PLAIN_RADIOGRAPHY,
        imaging_measurements=[
            _group(source, "probability of definite radiographic sacroiliitis", model, codes.DCM.Probability, probability),
            *(
                _group(source, f"call at the cut-off {name}", model, codes.DCM.ThresholdValue, cutoff, probability >= cutoff)
                for name, cutoff in model.cutoffs.items()
            ),
        ],
    )
    root = content[0].ContentSequence
    contains = RelationshipTypeValues.CONTAINS
    illustration = CodedConcept.from_code(codes.DCM.BestIllustrationOfFinding)
    root.append(ImageContentItem(illustration, capture.SOPClassUID, capture.SOPInstanceUID, relationship_type=contains))
    for text in (NOTICE, remarks):
        root.append(TextContentItem(CodedConcept.from_code(codes.DCM.Comment), text, contains))
    return ComprehensiveSR(
        evidence=[source, capture],
        content=content[0],
        series_instance_uid=UID(),
        series_number=REPORT_SERIES,
        sop_instance_uid=UID(),
        instance_number=1,
        is_complete=True,
        series_description="sacro_ray report, RESEARCH USE ONLY",
        transfer_syntax_uid=ExplicitVRLittleEndian,
        **_equipment(model),
    )


def _group(
    source: pydicom.Dataset, name: str, model: Model, measured: Code, value: float, present: bool | None = None
) -> MeasurementsAndQualitativeEvaluations:
    """A measurement group (TID 1501): a number without unit, and, where there is a call, present or absent."""
    answer = codes.SCT.Present if present else codes.SCT.Absent
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=UID(), identifier=name),
        finding_type=SACROILIITIS,
        finding_sites=[FindingSite(codes.SCT.SacroiliacJoint)],
        algorithm_id=AlgorithmIdentification(
            name=MANUFACTURER,
            version=model.version,
            parameters=[f"run: {model.run}", f"weights: SHA-256 {model.checkpoint}"],
        ),
        measurements=[Measurement(name=measured, value=round(float(value), 8), unit=codes.UCUM.NoUnits)],
        qualitative_evaluations=None if present is None else [QualitativeEvaluation(PRESENCE, answer)],
        source_images=[SourceImageForMeasurementGroup(source.SOPClassUID, source.SOPInstanceUID)],
    )


def _equipment(model: Model) -> dict[str, Any]:
    return {
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": model.run,
        "software_versions": model.version,
        "device_serial_number": model.checkpoint[:16],
    }


def _remarks(flags: Sequence[str], familiarity: float | None) -> str:
    quality = ", ".join(flag.replace("_", " ") for flag in flags) or "none"
    known = "not known" if familiarity is None else f"{familiarity:.1f} % of the validation radiographs lie at least as far"
    return f"Remarks on the image: {quality}. Familiarity: {known} from the training set."


def with_caption(picture: Picture, *lines: str) -> Picture:
    """The picture, uint8 (H, W, 3), with lines of white text on a black band below it."""
    height, width = picture.shape[:2]
    size = max(12, width // 24)
    band = np.zeros((round(1.4 * size * len(lines)) + size // 2, width, 3), dtype=np.uint8)
    image = Image.fromarray(np.concatenate([picture, band]))
    drawing, font = ImageDraw.Draw(image), ImageFont.load_default(size)
    for number, line in enumerate(lines):
        drawing.text((size // 2, height + size // 4 + round(1.4 * size * number)), line, fill="white", font=font)
    return np.asarray(image)


def _as_file(dataset: pydicom.Dataset) -> bytes:
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()
