"""A Secondary Capture of the overlay on a scored radiograph (DICOM PS3.3 A.8.1)."""

from collections.abc import Sequence

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
AMBER, WHITE = (255, 200, 60), (255, 255, 255)
Picture = npt.NDArray[np.uint8]


def secondary_capture(
    source: pydicom.Dataset, picture: Picture, probability: float, cautions: Sequence[str], model: Model
) -> pydicom.Dataset:
    """The overlay, uint8 (H, W, 3), with a caption, in the study of `source` (see `study_of`).

    Args:
        source: The radiograph's study.
        picture: The overlay.
        probability: Of definite radiographic sacroiliitis.
        cautions: Sentences that a reader should know before the number.
        model: What scored.
    """
    # A viewer shows this picture far from its report: it has to say by itself what it is, and what speaks against its number.
    number = f"sacro_ray: probability {probability:.2f}"
    captioned = with_caption(picture, cautions, [number, "RESEARCH USE ONLY, not for diagnosis"])
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
    capture.ImageComments = " ".join([*cautions, NOTICE])
    reference = pydicom.Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = source.SOPClassUID, source.SOPInstanceUID
    reference.PurposeOfReferenceCodeSequence = [CodedConcept.from_code(codes.DCM.SourceImageForImageProcessingOperation)]
    capture.SourceImageSequence = [reference]
    return capture


def with_caption(picture: Picture, cautions: Sequence[str], lines: Sequence[str]) -> Picture:
    """The picture, uint8 (H, W, 3), with text on a black band below it: cautions in amber, broken where too wide, then lines in white."""
    height, width = picture.shape[:2]
    size = max(12, width // 24)
    font = ImageFont.load_default(size)
    rows = [(row, AMBER) for caution in cautions for row in _broken(caution, font, width - size)] + [
        (row, WHITE) for row in lines
    ]
    band = np.zeros((round(1.4 * size * len(rows)) + size // 2, width, 3), dtype=np.uint8)
    image = Image.fromarray(np.concatenate([picture, band]))
    drawing = ImageDraw.Draw(image)
    for number, (row, colour) in enumerate(rows):
        drawing.text((size // 2, height + size // 4 + round(1.4 * size * number)), row, fill=colour, font=font)
    return np.asarray(image)


def _broken(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    """A text in rows of at most this width, pixels, broken between words."""
    rows: list[str] = []
    for word in text.split():
        longer = f"{rows[-1]} {word}" if rows else word
        if rows and font.getlength(longer) <= width:
            rows[-1] = longer
        else:
            rows.append(word)
    return rows
