"""What results in DICOM take from the radiograph that was scored: the patient and the study, for an archive files by them; nothing else."""

import re

import pydicom
from pydicom import config
from pydicom.valuerep import validate_value

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


def study_of(read: pydicom.Dataset) -> pydicom.Dataset | None:
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
