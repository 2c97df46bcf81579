"""Real knee radiographs sent as hospitals send them, a patient a film: the publisher's labels, and no name that leaks."""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tomli_w

from sacro_ray import prepare
from sacro_ray.dataset.manifest import read_manifest
from sacro_ray.dataset.shards import read_samples

pytestmark = [pytest.mark.shared, pytest.mark.ray]
SECRETS = (b"SECRET", b"HOSPITAL", b"19700101")


def lay_out(shared_dir, out, patients):
    tool = shared_dir / "tools/knee_cohorts.py"
    command = [sys.executable, str(tool), str(out), "--joint", "bilateral", "--format", "dicom", "--patients", str(patients)]
    subprocess.run(command, check=True)


def prepare_in_a_process(base, shards, tmp_path):
    """The command in a process of its own, Ray's own logs in a folder that can be searched."""
    settings = {
        "name": "bilateral",
        "cohorts": {
            "oai": {
                "table": str(base / "oai/cohort.csv"),
                "readings": str(base / "oai/readings.csv"),
                "role": "development",
                "rule": "modified_new_york",
                "consensus": "adjudicated",
                "readers": ["central"],
            }
        },
        "prepare": {"shards": str(shards), "store_size": 256},
    }
    path = tmp_path / f"{shards.name}.toml"
    path.write_text(tomli_w.dumps(settings))
    logs = Path(f"/tmp/sr{os.getpid()}")  # Ray's sockets need a short path
    environment = {**os.environ, "PYTHONPATH": str(Path(prepare.__file__).parents[1]), "RAY_TMPDIR": str(logs)}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "sacro_ray.prepare", str(path)], env=environment, capture_output=True, timeout=500
        )
        written = (
            done.stdout + done.stderr + b"".join(p.read_bytes() for p in logs.rglob("*") if p.is_file() and not p.is_symlink())
        )
    finally:
        shutil.rmtree(logs, ignore_errors=True)
    return done, written + b"".join(p.read_bytes() for p in shards.rglob("*") if p.is_file())


def check_labels(shared_dir, shards, expected_patients):
    with (shared_dir / "data/knee_oai/labels.csv").open() as file:
        truth = {row["patient_id"]: int(row["both_ge2_or_one_ge3"]) for row in csv.DictReader(file)}
    found = {
        s.record["patient_id"]: s.record["label"]
        for split in ("train", "validation")
        for s in read_samples(shards, "oai", split)
    }
    assert len(found) == expected_patients
    assert found == {patient: truth[patient] for patient in found}


@pytest.mark.parametrize("patients", [20, pytest.param(0, marks=pytest.mark.slow)])
def test_publishers_labels_and_no_names(shared_dir, tmp_path, patients):
    lay_out(shared_dir, tmp_path / "knee", patients)
    done, written = prepare_in_a_process(tmp_path / "knee", tmp_path / "shards", tmp_path)
    assert done.returncode == 0, done.stderr
    assert not [secret for secret in SECRETS if secret in written]
    check_labels(shared_dir, tmp_path / "shards", 2 * patients or 1300)
    manifest = read_manifest(tmp_path / "shards", "oai")
    assert not manifest.excluded
    if not patients:
        assert manifest.splits["train"].positives == 380


def test_no_names_from_runs_that_fail(shared_dir, tmp_path):
    """Files with damaged headers and pixels, of which pydicom would quote names and numbers; and too many of them."""
    lay_out(shared_dir, tmp_path / "knee", 12)
    for number, path in enumerate(sorted((tmp_path / "knee/oai/images").glob("*.dcm"))[:12]):
        data = bytearray(path.read_bytes())
        place = data.find(b"SECRET") if number % 2 else data.find(b"HOSPITAL")
        if number % 3 == 0:
            data[place - 4 : place - 2] = b"US"  # the name as a number
        elif number % 3 == 1:
            data[place - 2 : place] = b"\xff\x7f"  # a length that swallows what follows
        else:
            data = data[: place + 20]
        path.write_bytes(data)
    done, written = prepare_in_a_process(tmp_path / "knee", tmp_path / "shards", tmp_path)
    assert done.returncode == 2
    assert b"max_excluded_fraction" in done.stderr
    assert b"Traceback" not in done.stderr
    assert not [secret for secret in SECRETS if secret in written]
