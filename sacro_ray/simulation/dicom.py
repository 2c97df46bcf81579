"""One simulated radiograph as a 12-bit digital X-ray DICOM file, marked as simulated wherever a reader might look."""

from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

# DICOM PS3.4 B.5: Digital X-Ray Image Storage - For Presentation.
DX_FOR_PRESENTATION = UID("1.2.840.10008.5.1.4.1.1.1.1")
PRODUCT_UID = UID("1.2.826.0.1.3680043.8.498.1")  # below the root that pydicom shares


def encode_dicom(
    pixels: NDArray[np.uint16],
    spacing_mm: float,
    radiograph_id: str,
    patient_id: str,
    sex: str,
    age_years: int,
    site: str,
    monochrome1: bool,
) -> bytes:
    """Encode a radiograph; the same arguments give the same bytes.

    Args:
        pixels: uint16 (height, width), 0 to 4095, bone bright.
        spacing_mm: Distance of pixel centres, both ways.
        radiograph_id: Also the source of the UIDs.
        patient_id: The simulated patient.
        sex: "male" or "female".
        age_years: Age.
        site: Where it was taken, in words.
        monochrome1: Store it with bone dark, as PhotometricInterpretation MONOCHROME1 (DICOM PS3.3 C.7.6.3.1.2).
    """
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = DX_FOR_PRESENTATION
    meta.MediaStorageSOPInstanceUID = _uid(radiograph_id, "instance")
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = PRODUCT_UID
    header = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    header.SOPClassUID, header.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    header.StudyInstanceUID, header.SeriesInstanceUID = _uid(radiograph_id, "study"), _uid(radiograph_id, "series")
    header.ImageType = ["DERIVED", "PRIMARY"]
    header.Modality, header.PresentationIntentType = "DX", "FOR PRESENTATION"
    header.Manufacturer, header.ManufacturerModelName = "SIMULATED", "SIMULATED"
    header.InstitutionName = f"SIMULATED {site}"
    header.PatientName, header.PatientID = "SIMULATED^PELVIS", patient_id
    header.PatientSex, header.PatientAge, header.PatientBirthDate = sex[0].upper(), f"{age_years:03d}Y", ""
    header.PatientIdentityRemoved, header.DeidentificationMethod = "YES", "SIMULATED: no patient exists"
    header.ImageComments = "SIMULATED radiograph, drawn by a program; not a patient, not for diagnosis"
    header.SeriesDescription = "SIMULATED AP PELVIS"
    header.StudyDate = header.StudyTime = header.AccessionNumber = header.ReferringPhysicianName = header.StudyID = ""
    header.SeriesNumber = header.InstanceNumber = 1
    header.BodyPartExamined, header.ViewPosition, header.PatientOrientation, header.Laterality = "PELVIS", "AP", ["L", "F"], ""
    header.ImageLaterality, header.BurnedInAnnotation, header.LossyImageCompression = "B", "NO", "00"
    header.ImagerPixelSpacing = [f"{spacing_mm:.4f}"] * 2
    header.Rows, header.Columns = pixels.shape
    header.SamplesPerPixel, header.PixelRepresentation = 1, 0
    header.BitsAllocated, header.BitsStored, header.HighBit = 16, 12, 11
    header.PhotometricInterpretation = "MONOCHROME1" if monochrome1 else "MONOCHROME2"
    header.PresentationLUTShape = "INVERSE" if monochrome1 else "IDENTITY"
    header.PixelIntensityRelationship, header.PixelIntensityRelationshipSign = "LOG", 1 if monochrome1 else -1
    header.RescaleIntercept, header.RescaleSlope, header.RescaleType = "0", "1", "US"
    header.WindowCenter, header.WindowWidth = "2048", "4096"
    stored = 4095 - pixels if monochrome1 else pixels
    header.PixelData = np.ascontiguousarray(stored, dtype="<u2").tobytes()
    buffer = BytesIO()
    header.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _uid(radiograph_id: str, level: str) -> UID:
    """A UID that depends on nothing but the radiograph."""
    return UID(generate_uid(entropy_srcs=["sacro_ray simulation", level, radiograph_id]))
