"""A structured report of a score: Comprehensive SR (DICOM PS3.3 A.35.3; PS3.16 TID 1500 and 1501), codes of the standard's own schemes."""

from collections.abc import Sequence

import pydicom
from highdicom import UID
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
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from sacro_ray.imaging.results_model import MANUFACTURER, Model, equipment

SACROILIITIS = CodedConcept("M46.1", "I10", "Sacroiliitis, not elsewhere classified")
PRESENCE = CodedConcept("705057003", "SCT", "Presence")
PLAIN_RADIOGRAPHY = CodedConcept("168537006", "SCT", "Plain radiography")
SERIES = 9002
"""A number beyond those that a modality gives; the standard asks for none in particular."""


def structured_report(
    source: pydicom.Dataset, capture: pydicom.Dataset, probability: float, comments: Sequence[str], model: Model
) -> pydicom.Dataset:
    """The report in the study of `source` (see `study_of`), with the capture as its illustration.

    Args:
        source: The radiograph's study.
        capture: The picture that goes with it.
        probability: Of definite radiographic sacroiliitis.
        comments: What a reader should know before the number, a sentence each.
        model: What scored.
    """
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
    # TID 1500 is extensible; viewers show its items in their order, and the measurements are a container.
    first = next(place for place, item in enumerate(root) if item.ValueType == "CONTAINER")
    for place, text in enumerate(comments, start=first):
        root.insert(place, TextContentItem(CodedConcept.from_code(codes.DCM.Comment), text, contains))
    root.append(ImageContentItem(illustration, capture.SOPClassUID, capture.SOPInstanceUID, relationship_type=contains))
    return ComprehensiveSR(
        evidence=[source, capture],
        content=content[0],
        series_instance_uid=UID(),
        series_number=SERIES,
        sop_instance_uid=UID(),
        instance_number=1,
        is_complete=True,
        series_description="sacro_ray report, RESEARCH USE ONLY",
        transfer_syntax_uid=ExplicitVRLittleEndian,
        **equipment(model),
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
