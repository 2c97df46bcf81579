"""The objects for the archive: the standard's own checker finds no error, references and UIDs are right, nothing is spoken aloud."""

import io
import logging
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import UID, generate_uid

from sacro_ray.imaging.exclusion import ExcludedRadiograph
from sacro_ray.imaging.remarks import REMARKS, familiarity_in_words, in_words
from sacro_ray.imaging.results_capture import with_caption
from sacro_ray.imaging.results_dicom import Objects, is_dicom_file, result_objects
from sacro_ray.imaging.results_model import Model

MODEL = Model(
    "knee", "0123456789abcdef" * 4, "1.2.3", {"sensitivity": 0.4712345678912345, "specificity": 0.79, "balanced": 0.72}
)
PICTURE = np.random.default_rng(0).integers(0, 255, (384, 384, 3), dtype=np.uint8)
PATIENT = {
    "PatientName": "Müller^Jürgen", "PatientID": "4711", "PatientBirthDate": "19700203", "PatientSex": "M", "AccessionNumber": "A1",
    "StudyDate": "20240102", "StudyTime": "101112", "StudyID": "S1", "ReferringPhysicianName": "Weiß^Eva",
}  # fmt: skip


@pytest.fixture(scope="module")
def film(make_dicom) -> bytes:
    """A radiograph of a patient and a study."""
    uids = {"StudyInstanceUID": generate_uid(), "SeriesInstanceUID": generate_uid(), "SpecificCharacterSet": "ISO_IR 100"}
    return make_dicom(np.arange(64, dtype=np.uint16).reshape(8, 8), **uids, **PATIENT)


@pytest.fixture(scope="module")
def objects(film) -> Objects:
    made = result_objects(film, PICTURE, 0.7512345678, ["small", "low_contrast"], 41.25, MODEL)
    assert made is not None
    return made


def read(data: bytes) -> pydicom.Dataset:
    return pydicom.dcmread(io.BytesIO(data))


@pytest.fixture(scope="session")
def checker(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of dciodvfy of Debian's dicom3tools: the machine's own, or else fetched into a folder of the tests."""
    if (own := shutil.which("dciodvfy")) is not None:
        return own
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        pytest.skip("no dciodvfy, and no apt-get to fetch dicom3tools with")
    folder = tmp_path_factory.mktemp("dicom3tools")
    lists = folder / "lists" / "partial"
    lists.mkdir(parents=True)
    apt = [
        "apt-get",
        "-qq",
        "-o",
        f"Dir::State::Lists={lists.parent}",
        "-o",
        f"Dir::Cache={folder}",
        "-o",
        "Acquire::Retries=0",
    ]
    try:
        for command in ([*apt, "update"], [*apt, "download", "dicom3tools"]):
            subprocess.run(command, cwd=folder, capture_output=True, check=True, timeout=120)
        (package,) = folder.glob("dicom3tools*.deb")
        subprocess.run(["dpkg", "-x", str(package), str(folder)], capture_output=True, check=True, timeout=60)
    except (subprocess.SubprocessError, OSError, ValueError):
        pytest.skip("no dciodvfy, and dicom3tools could not be fetched")
    return str(folder / "usr" / "bin" / "dciodvfy")


@pytest.fixture
def errors_of(checker: str, tmp_path: Path) -> Callable[[bytes], list[str]]:
    """What the checker calls an error in an object's bytes."""

    def errors_of(data: bytes) -> list[str]:
        path = tmp_path / "object.dcm"
        path.write_bytes(data)
        done = subprocess.run([checker, str(path)], capture_output=True, text=True)
        said = (done.stdout + done.stderr).splitlines()
        assert any(line in ("SCImage", "ComprehensiveSR") for line in said), "it names the kind of object that it checked"
        return [line for line in said if "Error" in line]

    return errors_of


def test_the_checker_of_dicom3tools_finds_no_error(objects, errors_of):
    assert errors_of(objects.capture) == []
    assert errors_of(objects.report) == []


def test_the_checker_would_find_one(objects, errors_of):
    spoilt = read(objects.capture)
    del spoilt.Rows
    buffer = io.BytesIO()
    spoilt.save_as(buffer)
    assert errors_of(buffer.getvalue())


@pytest.mark.shared
def test_real_headers_with_their_faults_give_objects_without_errors(shared_dir, errors_of):
    checked = 0
    for path in sorted((shared_dir / "data/dicom").glob("*.dcm")):
        try:
            made = result_objects(path.read_bytes(), PICTURE, 0.25, [], None, MODEL)
        except ExcludedRadiograph:
            continue
        if made is not None:
            assert errors_of(made.capture) + errors_of(made.report) == [], path.name
            checked += 1
    assert checked >= 20


def test_they_belong_to_the_study_and_refer_to_the_film(film, objects):
    source, capture, report = read(film), read(objects.capture), read(objects.report)
    for made in (capture, report):
        assert made.StudyInstanceUID == source.StudyInstanceUID
        for keyword, value in PATIENT.items():
            assert made[keyword].value == value, keyword
    own = [capture.SOPInstanceUID, report.SOPInstanceUID, capture.SeriesInstanceUID, report.SeriesInstanceUID]
    assert len({*own, source.SOPInstanceUID, source.SeriesInstanceUID, source.StudyInstanceUID}) == 7
    assert all(UID(uid).is_valid for uid in own)
    assert [made.file_meta.MediaStorageSOPInstanceUID for made in (capture, report)] == own[:2]
    (reference,) = capture.SourceImageSequence
    assert (reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID) == (source.SOPClassUID, source.SOPInstanceUID)
    (study,) = report.CurrentRequestedProcedureEvidenceSequence
    referred = {
        (series.SeriesInstanceUID, instance.ReferencedSOPInstanceUID)
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }
    assert study.StudyInstanceUID == source.StudyInstanceUID
    assert referred == {(made.SeriesInstanceUID, made.SOPInstanceUID) for made in (source, capture)}


def test_each_time_with_new_uids(film, objects):
    again = result_objects(film, PICTURE, 0.7512345678, [], None, MODEL)
    assert read(again.capture).SOPInstanceUID != read(objects.capture).SOPInstanceUID
    assert read(again.report).SOPInstanceUID != read(objects.report).SOPInstanceUID


def content(item: pydicom.Dataset) -> list[tuple[str, object]]:
    """Meaning and value of all items below one."""
    found: list[tuple[str, object]] = []
    for child in item.get("ContentSequence", []):
        name = child.ConceptNameCodeSequence[0].CodeMeaning
        if child.ValueType == "NUM":
            found.append((name, float(child.MeasuredValueSequence[0].NumericValue)))
        elif child.ValueType == "CODE":
            found.append((name, child.ConceptCodeSequence[0].CodeMeaning))
        elif child.ValueType == "TEXT":
            found.append((name, child.TextValue))
        found += content(child)
    return found


def test_the_report_says_finding_probability_calls_cutoffs_model_and_whom_it_is_for(objects):
    said = content(read(objects.report))
    assert [value for name, value in said if name == "Probability"] == [0.75123457]
    assert [value for name, value in said if name == "Threshold Value"] == [0.47123457, 0.79, 0.72]
    assert [value for name, value in said if name == "Presence"] == ["Present", "Absent", "Present"]
    assert ("Finding", "Sacroiliitis, not elsewhere classified") in said
    assert ("Finding Site", "Sacroiliac joint") in said
    assert {value for name, value in said if name == "Algorithm Version"} == {"1.2.3"}
    assert ("Algorithm Parameters", f"weights: SHA-256 {MODEL.checkpoint}") in said
    assert ("Algorithm Parameters", "run: knee") in said
    comments = [str(value) for name, value in said if name == "Comment"]
    assert "For research use only; not for diagnosis." in comments
    assert "Caution: Hardly any contrast." in comments
    assert any("41.2 % of the validation radiographs" in comment for comment in comments)
    report = read(objects.report)
    assert (report.CompletionFlag, report.VerificationFlag, report.PreliminaryFlag) == ("COMPLETE", "UNVERIFIED", "PRELIMINARY")


def test_cautions_come_before_every_number_in_the_report(film):
    made = result_objects(film, PICTURE, 0.91, ["small", "unfamiliar", "not_cropped"], 0.0, MODEL)
    said = content(read(made.report))
    first_number = next(place for place, (_, value) in enumerate(said) if isinstance(value, float))
    before = [str(value) for name, value in said[:first_number] if name == "Comment"]
    assert [value.partition(":")[0] for value in before] == ["For research use only; not for diagnosis."] + ["Caution"] * 3 + [
        "0.0 % of the validation radiographs lie at least as far from those of training."
    ]
    assert [value for value in before if "do not rely on this score" in value] == before[1:3], "the gravest first"


def amber(pixels: np.ndarray) -> np.ndarray:
    """The rows of a picture in which something is written in amber."""
    return np.flatnonzero(((pixels[..., 0] > 200) & (pixels[..., 2] < 120)).any(axis=1))


def test_cautions_come_before_the_number_on_the_capture(film, objects):
    without = read(result_objects(film, PICTURE, 0.91, [], 50.0, MODEL).capture)
    assert not len(amber(without.pixel_array[384:]))
    capture = read(result_objects(film, PICTURE, 0.91, ["unfamiliar"], 0.0, MODEL).capture)
    band = capture.pixel_array[384:]
    white = np.flatnonzero((band == 255).all(axis=(2,)).any(axis=1))
    assert len(amber(band)) > 8
    assert amber(band).max() < white.min()
    assert "do not rely on this score" in capture.ImageComments
    # As long as all remarks together are, none is cut off at the side or below.
    every = read(result_objects(film, PICTURE, 0.91, list(REMARKS), 0.0, MODEL).capture).pixel_array[384:]
    assert not every[:, -4:].any()
    assert not every[-2:].any()


def test_every_remark_is_a_sentence_and_an_unknown_one_is_kept():
    assert in_words(["small", "never_heard_of", "unfamiliar"]) == [REMARKS["unfamiliar"], REMARKS["small"], "Never heard of."]
    assert all(words[0].isupper() and words.endswith(".") for words in REMARKS.values())
    assert familiarity_in_words(None) == "How familiar it is to the network is not known."


def test_the_capture_shows_the_overlay_above_its_caption(objects):
    capture = read(objects.capture)
    np.testing.assert_array_equal(capture.pixel_array[:384], PICTURE)
    band = capture.pixel_array[384:]
    assert 0.01 < (band == 255).mean() < 0.5, "white words on black"
    assert "RESEARCH USE ONLY" in capture.SeriesDescription


def test_no_private_elements(objects):
    for data in (objects.capture, objects.report):
        assert not [element.tag for element in read(data).iterall() if element.tag.is_private]


def test_what_breaks_the_standards_rules_is_left_empty(make_dicom, film):
    broken = read(film)
    with pydicom.config.disable_value_validation():
        broken.PatientSex, broken.PatientBirthDate, broken.StudyID = "MALE", "2.3.1970", "S" * 40
        broken.PatientOrientation, broken.LossyImageCompression, broken.LossyImageCompressionRatio = ["left", "F"], "01", "12.5"
        buffer = io.BytesIO()
        broken.save_as(buffer)
    capture = read(result_objects(buffer.getvalue(), PICTURE, 0.5, [], None, MODEL).capture)
    assert [capture[name].value or "" for name in ("PatientSex", "PatientBirthDate", "StudyID", "PatientOrientation")] == [
        ""
    ] * 4
    assert (capture.LossyImageCompression, float(capture.LossyImageCompressionRatio)) == ("01", 12.5)


@pytest.mark.parametrize("missing", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"])
def test_without_something_to_refer_to_there_is_none(film, missing):
    bare = read(film)
    del bare[missing]
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, bare)
    assert result_objects(buffer.getvalue(), PICTURE, 0.5, [], None, MODEL) is None


def test_nothing_of_the_patient_is_logged(film, caplog, recwarn, capsys):
    single = read(film)
    single.PatientName = "Einname"  # of which highdicom warns aloud
    buffer = io.BytesIO()
    single.save_as(buffer)
    del single.Rows
    damaged = io.BytesIO()
    single.save_as(damaged)
    with caplog.at_level(logging.DEBUG):
        assert result_objects(buffer.getvalue(), PICTURE, 0.5, [], None, MODEL)
        with pytest.raises(ExcludedRadiograph) as raised:
            result_objects(damaged.getvalue(), PICTURE, 0.5, [], None, MODEL)
    said = caplog.text + str([str(w.message) for w in recwarn]) + "".join(capsys.readouterr()) + str(raised.value)
    assert "Einname" not in said
    assert single.SOPInstanceUID not in said


def test_which_files_are_dicom(film):
    assert is_dicom_file(film)
    assert is_dicom_file(b"II*\0" + film[4:]), "a dual-purpose file is read as DICOM"
    assert not is_dicom_file(b"\x89PNG\r\n\x1a\n" + bytes(200))


def test_a_caption_fits_small_pictures():
    assert with_caption(np.zeros((32, 32, 3), np.uint8), ["a caution"], ["b"]).shape[1:] == (32, 3)
