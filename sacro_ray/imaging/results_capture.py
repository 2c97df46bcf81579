"""A Secondary Capture of the overlay on a scored radiograph (DICOM PS3.3 A.8.1)."""

import numpy as np
import numpy.typing as npt
import pydicom
from highdicom import UID
from highdicom.sc import SCImage
from highdicom.sr import CodedConcept
from PIL import Image, ImageDraw, ImageFont
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian

from sacro_ray.imaging.results_model import NOTICE, Model, equipment
from sacro_ray.imaging.results_study import COPIED, LOSSY

SERIES = 9001
"""A number beyond those that a modality gives; the standard asks for none in particular."""
Picture = npt.NDArray[np.uint8]


def secondary_capture(source: pydicom.Dataset, picture: Picture, probability: float, model: Model) -> pydicom.Dataset:
    """The overlay, uint8 (H, W, 3), with a caption, in the study of `source` (see `study_of`)."""
    # A viewer shows this picture far from its report: it has to say by itself what it is.
    captioned = with_caption(picture, f"sacro_ray: probability {probability:.2f}", "RESEARCH USE ONLY, not for diagnosis")
    capture = SCImage.from_ref_dataset(
        ref_dataset=source,
        pixel_array=captioned,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        series_instance_uid=UID(),
        series_number=SERIES,
        sop_instance_uid=UID(),
        instance_number=1,
        patient_orientation=("L", "F"),  # highdicom wants one; the source's follows
        transfer_syntax_uid=ExplicitVRLittleEndian,
        series_description="sacro_ray overlay, RESEARCH USE ONLY",
        **equipment(model),
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
