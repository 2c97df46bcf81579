"""What `write_cohorts` leaves on disk."""

import hashlib
import json

import numpy as np
import pandas as pd
import pydicom
import pytest

from sacro_ray.errors import UserError
from sacro_ray.simulation import cohort
from sacro_ray.simulation.cohort import STUDIES, radiograph_bytes, sample_patient, write_cohorts

SIZE_PX = 96


def digests(folder):
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*")) if p.is_file()
    }


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    out = tmp_path_factory.mktemp("simulated") / "cohorts"
    write_cohorts(out, 12, 5, seed=7, size_px=SIZE_PX, workers=1)
    return out


def test_tables_are_in_the_input_format(written):
    for name, count in (("proof", 12), ("gespic", 5)):
        table = pd.read_csv(written / name / "cohort.csv")
        readings = pd.read_csv(written / name / "readings.csv")
        assert len(table) == count
        assert table["radiograph_id"].is_unique
        assert table["patient_id"].is_unique
        assert "split" not in table
        assert all((written / name / path).is_file() for path in table["path"])
        assert set(readings["radiograph_id"]) == set(table["radiograph_id"])
        assert not readings.duplicated(["radiograph_id", "reader"]).any()
        assert readings[["grade_right", "grade_left"]].isin(range(5)).all(axis=None)
        assert set(readings["reader"]) <= set(STUDIES[name].readers)
    assert pd.read_csv(written / "proof" / "cohort.csv")["radiograph_id"][0] == "SIM-PROOF-00001"


def test_truth_is_the_grade_that_was_drawn(written):
    truth = pd.read_csv(written / "proof" / "truth.csv")
    assert truth["grade_right"].tolist() == np.floor(truth["severity_right"] + 0.5).astype(int).tolist()


def test_header_says_that_nothing_is_real(written):
    for path in written.rglob("*.dcm"):
        header = pydicom.dcmread(path)
        assert header.PatientName == "SIMULATED^PELVIS"
        assert header.PatientIdentityRemoved == "YES"
        assert header.ManufacturerModelName == "SIMULATED"
        assert "SIMULATED" in header.ImageComments
        assert header.Modality == "DX"
        assert (header.BitsStored, header.HighBit) == (12, 11)
        assert header.pixel_array.max() <= 4095
        assert header.SOPInstanceUID == header.file_meta.MediaStorageSOPInstanceUID


def test_monochrome1_holds_the_inverted_picture():
    study = STUDIES["gespic"]
    interpretations = set()
    for number in range(1, 25):
        patient = sample_patient(study, number)
        from_file = pydicom.dcmread(pydicom.filebase.DicomBytesIO(radiograph_bytes(study, patient, 0, SIZE_PX)))
        pixels = from_file.pixel_array.astype(int)
        if from_file.PhotometricInterpretation == "MONOCHROME1":
            pixels = 4095 - pixels
        interpretations.add(from_file.PhotometricInterpretation)
        height, width = pixels.shape
        sacrum = pixels[height * 3 // 10 : height * 5 // 10, width * 45 // 100 : width * 55 // 100]
        assert np.median(sacrum) > 1600  # bone is bright
    assert interpretations == {"MONOCHROME1", "MONOCHROME2"}


def test_the_same_seed_gives_the_same_bytes_in_any_number_of_processes(written, tmp_path, monkeypatch):
    monkeypatch.setattr(cohort, "WORTH_A_PROCESS", 4)
    write_cohorts(tmp_path / "again", 12, 5, seed=7, size_px=SIZE_PX, workers=2)
    assert digests(tmp_path / "again") == digests(written)


def test_a_larger_cohort_begins_with_the_patients_of_a_smaller_one(written, tmp_path):
    write_cohorts(tmp_path / "small", 3, 2, seed=7, size_px=SIZE_PX, workers=1)
    small, large = digests(tmp_path / "small"), digests(written)
    assert all(large[name] == digest for name, digest in small.items() if name.endswith(".dcm"))
    for table in ("proof/cohort.csv", "gespic/readings.csv"):
        lines = (tmp_path / "small" / table).read_text().splitlines()
        assert (written / table).read_text().splitlines()[: len(lines)] == lines


def test_another_seed_gives_other_patients(written, tmp_path):
    write_cohorts(tmp_path / "other", 2, 1, seed=8, size_px=SIZE_PX, workers=1)
    name = "proof/radiographs/SIM-PROOF-00001.dcm"
    assert digests(tmp_path / "other")[name] != digests(written)[name]


def test_goes_on_after_a_kill(tmp_path):
    out = tmp_path / "cohorts"
    write_cohorts(out, 3, 2, size_px=SIZE_PX, workers=1)
    complete = digests(out)
    # As after a kill: no table of the second cohort, a radiograph missing, another half written.
    (out / "gespic" / "cohort.csv").unlink()
    (out / "gespic" / "radiographs" / "SIM-GESPIC-00002.dcm").unlink()
    (out / "gespic" / "radiographs" / ".SIM-GESPIC-00002.dcm.4711.tmp").write_bytes(b"half")
    kept = (out / "gespic" / "radiographs" / "SIM-GESPIC-00001.dcm").stat().st_mtime_ns
    write_cohorts(out, 3, 2, size_px=SIZE_PX, workers=1)
    assert digests(out) == complete
    assert (out / "gespic" / "radiographs" / "SIM-GESPIC-00001.dcm").stat().st_mtime_ns == kept


def test_does_nothing_where_it_is_complete(written, monkeypatch, capsys):
    monkeypatch.setattr(cohort, "_write", lambda *_: pytest.fail("wrote a file of a complete simulation"))
    write_cohorts(written, 12, 5, seed=7, size_px=SIZE_PX, workers=1)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("change", [{"patients": 13}, {"test_patients": 6}, {"seed": 8}, {"size_px": 128}])
def test_refuses_a_folder_with_another_simulation(written, change):
    before = digests(written)
    with pytest.raises(UserError, match="other parameters"):
        write_cohorts(written, **{"patients": 12, "test_patients": 5, "seed": 7, "size_px": SIZE_PX, "workers": 1, **change})
    assert digests(written) == before


def test_refuses_a_folder_with_something_else(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="holds no simulation"):
        write_cohorts(tmp_path, 2, 1)


@pytest.mark.parametrize("wrong", [{"patients": 0}, {"test_patients": 0}, {"seed": -1}, {"size_px": 10}, {"workers": 0}])
def test_numbers_out_of_range_are_named(tmp_path, wrong):
    name = next(iter(wrong)).replace("_", "-")
    with pytest.raises(UserError, match=f"{name} is .*allowed are"):
        write_cohorts(tmp_path / "new", **{"patients": 2, **wrong})
    assert not (tmp_path / "new").exists()


def test_external_cohort_keeps_the_proportion_of_the_studies(tmp_path):
    write_cohorts(tmp_path / "new", 7, size_px=64, workers=1)
    assert json.loads((tmp_path / "new" / "simulation.json").read_text())["radiographs"] == {"proof": 7, "gespic": 2}
