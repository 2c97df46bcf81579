"""The command, end to end on Ray: what it writes, what it refuses, and what a kill leaves behind."""

import csv
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import tomli_w
from cohorts import cohort_settings, dicom_bytes, write_cohort

from sacro_ray import prepare
from sacro_ray.command import run
from sacro_ray.config import build_experiment
from sacro_ray.dataset.manifest import read_manifest
from sacro_ray.dataset.shards import read_samples
from sacro_ray.dataset.working_folder import WorkingFolder
from sacro_ray.errors import UserError

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def cohorts(tmp_path_factory):
    """A development cohort of 72 and an external test cohort of 16 small pictures; some readers of the latter differ."""
    base = tmp_path_factory.mktemp("cohorts")
    write_cohort(base / "ours", 72, 1, ["a"])
    write_cohort(base / "theirs", 16, 2, ["a", "b"])
    path = base / "theirs/readings.csv"
    path.write_text(path.read_text().replace("r2000,a,0", "r2000,a,2"))
    return base


def settings_of(base, shards, **changes):
    return {
        "name": "small",
        "cohorts": {
            "ours": cohort_settings(base / "ours", "development", ["a"]),
            "theirs": cohort_settings(base / "theirs", "external_test", ["a", "b"]),
        },
        "prepare": {"shards": str(shards), "samples_per_shard": 8, **changes},
    }


def experiment_file(base, shards, **changes):
    path = Path(shards).parent / f"{Path(shards).name}.toml"
    path.write_text(tomli_w.dumps(settings_of(base, shards, **changes)))
    return path


def files_of(folder):
    """Digests of all files by name, but for the lock."""
    found = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "lock")
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


@pytest.fixture(scope="module")
def prepared(cohorts, local_ray, tmp_path_factory):
    shards = tmp_path_factory.mktemp("out") / "shards"
    assert prepare.main([str(experiment_file(cohorts, shards))]) == shards
    return shards


def test_what_is_written(prepared):
    ours, theirs = read_manifest(prepared, "ours"), read_manifest(prepared, "theirs")
    assert ours.splits.keys() == {"train", "validation"}
    assert theirs.splits.keys() == {"test"}
    assert ours.splits["train"].radiographs + ours.splits["validation"].radiographs == 72
    assert (theirs.splits["test"].radiographs, theirs.splits["test"].discordant) == (16, 1)
    patients = [{s.record["patient_id"] for s in read_samples(prepared, "ours", split)} for split in ("train", "validation")]
    assert not patients[0] & patients[1]
    by_id = {s.record["radiograph_id"]: s.record for s in read_samples(prepared, "theirs", "test")}
    assert (by_id["r2000"]["label"], by_id["r2000"]["subset"]) == (None, "discordant")
    assert by_id["r2000"]["readings"] == {"a": 1, "b": 0}
    assert by_id["r2002"]["subset"] == "concordant"
    assert {p.name for p in (prepared / "ours").iterdir()} == {
        "train",
        "validation",
        "manifest.json",
        "index.csv",
        "near_duplicates.csv",
        "contact_train.png",
        "contact_validation.png",
    }


def test_again_is_verified_and_left_alone(prepared, cohorts, caplog):
    before = {p: p.stat().st_mtime_ns for p in prepared.rglob("*")}
    caplog.set_level("INFO")
    prepare.main([str(experiment_file(cohorts, prepared))])
    assert {p: p.stat().st_mtime_ns for p in prepared.rglob("*")} == before
    assert "left as it is" in caplog.text
    assert prepare.main(["--verify", str(prepared / "ours")]) == prepared / "ours"


def test_other_settings_or_inputs_are_refused(prepared, cohorts, capsys):
    def refused(argv, *says):
        with pytest.raises(SystemExit) as caught:
            run(prepare.main, argv)
        error = capsys.readouterr().err
        assert caught.value.code == 2
        assert all(word in error for word in says), error
        assert "Traceback" not in error

    before = files_of(prepared)
    refused([str(experiment_file(cohorts, prepared, store_size=40))], "store_size = 40, then 1024", "overwrites nothing")
    readings = cohorts / "ours/readings.csv"
    original = readings.read_text()
    readings.write_text(original.replace("r1000,a,0", "r1000,a,4"))
    refused([str(experiment_file(cohorts, prepared))], "other tables or image files")
    readings.write_text(original)
    picture = cohorts / "ours/images/r1000.png"
    pixels = picture.read_bytes()
    picture.write_bytes((cohorts / "ours/images/r1001.png").read_bytes())
    refused([str(experiment_file(cohorts, prepared))], "other tables or image files")
    picture.write_bytes(pixels)
    shard = prepared / "ours/train/000000.tar"
    kept = shard.read_bytes()
    shard.write_bytes(kept[:-512])
    refused(["--verify", str(prepared / "ours")], "train/000000.tar")
    shard.write_bytes(kept)
    assert files_of(prepared) == before


def test_what_another_prepare_completed_meanwhile_with_other_settings_is_refused(prepared, cohorts, tmp_path, monkeypatch):
    shards = Path(shutil.copytree(prepared, tmp_path / "shards"))
    manifests = {name: (shards / name / "manifest.json") for name in ("ours", "theirs")}
    kept = {path: path.read_bytes() for path in manifests.values()}
    for path in kept:
        path.unlink()

    @contextmanager
    def after_another(*names):
        for path, content in kept.items():
            path.write_bytes(content)
        yield

    monkeypatch.setattr(WorkingFolder, "alone", after_another)
    with pytest.raises(UserError, match="samples_per_shard = 4, then 8"):
        prepare.main([str(experiment_file(cohorts, shards, samples_per_shard=4))])


def test_replace_writes_again_what_has_changed_and_the_lists_of_all_cohorts(cohorts, local_ray, tmp_path, caplog):
    base = tmp_path / "cohorts"
    for name in ("ours", "theirs"):
        (base / name).mkdir(parents=True)
        (base / name / "images").symlink_to(cohorts / name / "images")
        for table in ("cohort.csv", "readings.csv"):
            (base / name / table).write_text((cohorts / name / table).read_text())
    shards = tmp_path / "shards"
    prepare.main([str(experiment_file(base, shards))])
    before = {path: path.stat().st_mtime_ns for path in shards.rglob("*") if path.is_file()}
    readings = base / "ours/readings.csv"
    readings.write_text(readings.read_text().replace("r1000,a,0", "r1000,a,4"))
    assert prepare.main([str(experiment_file(base, shards)), "--replace", "--set", "seed=3"]) == shards
    assert sum(path.stat().st_mtime_ns != before[path] for path in shards.rglob("*.tar")) == 1
    assert f"{shards}/ours is replaced" in caplog.text
    assert f"{shards}/theirs is replaced" not in caplog.text
    assert all((shards / name / "near_duplicates.csv").stat().st_mtime_ns > max(before.values()) for name in ("ours", "theirs"))
    assert not list(shards.rglob(".working"))
    prepare.main([str(experiment_file(base, shards))])


def test_check_says_what_would_be_done_and_writes_nothing(cohorts, tmp_path, capsys):
    base = tmp_path / "cohorts"
    for name in ("ours", "theirs"):
        (base / name / "images").mkdir(parents=True)
        for path in (cohorts / name).rglob("*.*"):
            (base / name / path.relative_to(cohorts / name)).write_bytes(path.read_bytes())
    pixels = np.arange(2000, dtype=np.uint16).reshape(40, 50)
    (base / "ours/images/r1004.png").write_bytes(dicom_bytes(pixels, Modality="CT"))
    (base / "ours/images/r1005.png").write_bytes(b"")
    shards = tmp_path / "shards"
    before = files_of(base)
    run(prepare.main, ["--check", str(experiment_file(base, shards, pseudonymise=True))])
    said = capsys.readouterr()
    assert said.out == ""
    assert "ours: 72 radiographs received, 2 would be left out before a pixel is read" in said.err
    assert "wrong_modality 1 (the header's modality is not among prepare.modalities, or is missing): r1004" in said.err
    assert "empty_file 1 (the file has no bytes): r1005" in said.err
    assert "test: 16 radiographs of 8 patients, 8 positive, 7 negative, 1 without a label" in said.err
    assert f"{shards}/theirs is not there yet" in said.err
    assert not shards.exists()
    assert files_of(base) == before
    with pytest.raises(SystemExit) as caught:
        run(prepare.main, ["--check", str(experiment_file(base, shards, max_excluded_fraction=0.01))])
    assert caught.value.code == 2
    assert "2 of 72 radiographs cannot be used" in capsys.readouterr().err


def test_check_knows_what_is_prepared(prepared, cohorts, caplog):
    caplog.set_level("INFO")
    prepare.main(["--check", str(experiment_file(cohorts, prepared))])
    assert f"{prepared}/ours is complete, from the same tables and settings" in caplog.text
    prepare.main(["--check", str(experiment_file(cohorts, prepared, store_size=40))])
    assert "store_size = 40, then 1024): prepare refuses, prepare --replace writes again" in caplog.text


def test_rows_in_any_order_and_any_number_of_processes_give_the_same_bytes(prepared, cohorts, tmp_path):
    """One process without Ray against two Ray workers; rows of both tables backwards."""
    from cohorts import prepare_here

    for name in ("ours", "theirs"):
        folder = tmp_path / "backwards" / name
        folder.mkdir(parents=True)
        (folder / "images").symlink_to(cohorts / name / "images")
        for table in ("cohort.csv", "readings.csv"):
            head, *rows = (cohorts / name / table).read_text().splitlines()
            (folder / table).write_text("\n".join([head, *reversed(rows)]) + "\n")
    root = prepare_here(build_experiment(settings_of(tmp_path / "backwards", tmp_path / "shards")))
    ray_only = ("contact", "near_duplicates")
    expected = {name: digest for name, digest in files_of(prepared).items() if not any(word in name for word in ray_only)}
    assert files_of(root) == expected


def test_one_bad_file_does_not_stop_the_rest(cohorts, local_ray, tmp_path, capsys):
    base = tmp_path / "cohorts"
    for name in ("ours", "theirs"):
        folder = base / name
        (folder / "images").mkdir(parents=True)
        for path in (cohorts / name).rglob("*.*"):
            (folder / path.relative_to(cohorts / name)).write_bytes(path.read_bytes())
    (base / "ours/images/r1004.png").write_bytes(b"not a picture at all")
    (base / "ours/images/r1005.png").write_bytes(b"")
    shards = tmp_path / "shards"
    prepare.main([str(experiment_file(base, shards))])
    manifest = read_manifest(shards, "ours")
    assert [(e.radiograph_id, e.reason) for e in manifest.excluded] == [("r1004", "not_an_image"), ("r1005", "empty_file")]
    assert sum(s.radiographs for s in manifest.splits.values()) == 70
    with pytest.raises(SystemExit) as caught:
        run(prepare.main, [str(experiment_file(base, tmp_path / "strict", max_excluded_fraction=0.01))])
    assert caught.value.code == 2
    assert "max_excluded_fraction" in capsys.readouterr().err


def test_the_same_picture_in_development_and_test_is_refused(cohorts, local_ray, tmp_path, capsys):
    base = tmp_path / "cohorts"
    for name in ("ours", "theirs"):
        folder = base / name
        (folder / "images").mkdir(parents=True)
        for path in (cohorts / name).rglob("*.*"):
            (folder / path.relative_to(cohorts / name)).write_bytes(path.read_bytes())
    # Another file, another encoding, the same pixels
    from PIL import Image

    Image.open(base / "ours/images/r1007.png").save(base / "theirs/images/r2003.png", compress_level=9)
    with pytest.raises(SystemExit) as caught:
        run(prepare.main, [str(experiment_file(base, tmp_path / "shards"))])
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert "r1007 (ours) = r2003 (theirs)" in error
    assert not list((tmp_path / "shards").rglob("manifest.json"))


@pytest.mark.parametrize("fate", ["warn", "drop"])
def test_duplicates_within_a_split(cohorts, local_ray, tmp_path, fate, caplog):
    base = tmp_path / "cohorts"
    folder = base / "theirs"
    (folder / "images").mkdir(parents=True)
    for path in (cohorts / "theirs").rglob("*.*"):
        (folder / path.relative_to(cohorts / "theirs")).write_bytes(path.read_bytes())
    (folder / "images/r2009.png").write_bytes((folder / "images/r2001.png").read_bytes())
    (base / "ours").symlink_to(cohorts / "ours")
    prepare.main([str(experiment_file(base, tmp_path / "shards", duplicates=fate))])
    assert "r2001 = r2009" in caplog.text
    ids = {s.record["radiograph_id"] for s in read_samples(tmp_path / "shards", "theirs", "test")}
    manifest = read_manifest(tmp_path / "shards", "theirs")
    assert len(ids) == manifest.splits["test"].radiographs == (16 if fate == "warn" else 15)
    assert ("r2009" in ids) is (fate == "warn")
    assert [(e.radiograph_id, e.reason) for e in manifest.excluded] == ([] if fate == "warn" else [("r2009", "duplicate")])


def test_pseudonyms(cohorts, local_ray, tmp_path):
    base = tmp_path / "cohorts"
    for name in ("ours", "theirs"):
        (base / name).mkdir(parents=True)
        (base / name / "images").symlink_to(cohorts / name / "images")
        for table in ("cohort.csv", "readings.csv"):
            (base / name / table).write_text((cohorts / name / table).read_text())
    shards = tmp_path / "shards"
    prepare.main([str(experiment_file(base, shards, pseudonymise=True))])
    everything = b"".join(p.read_bytes() for p in shards.rglob("*") if p.is_file())
    originals = [f"r1{i:03d}" for i in range(72)] + [f"p1{i:03d}" for i in range(36)]
    assert not [name for name in originals if name.encode() in everything]
    with (base / "ours/cohort.pseudonyms.csv").open() as file:
        table = {(row["kind"], row["id"]): row["pseudonym"] for row in csv.DictReader(file)}
    assert (base / "ours/cohort.pseudonyms.csv").stat().st_mode & 0o077 == 0
    samples = [s.record for split in ("train", "validation") for s in read_samples(shards, "ours", split)]
    assert {s["radiograph_id"] for s in samples} == {v for (kind, _), v in table.items() if kind == "radiograph"}
    assert {s["patient_id"] for s in samples} == {v for (kind, _), v in table.items() if kind == "patient"}
    before = files_of(shards)
    prepare.main([str(experiment_file(base, shards, pseudonymise=True))])
    assert files_of(shards) == before


SITECUSTOMISE = """
import os, signal
import sacro_ray.imaging.decode as decode
original = decode.read_radiograph
def read_radiograph(data, *rest, **more):
    if b"POISON" in data:
        os.kill(os.getpid(), signal.SIGSEGV)
    return original(data, *rest, **more)
decode.read_radiograph = read_radiograph
"""


def environment(**more):
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(Path(prepare.__file__).parents[1]), *more.pop("first", [])]),
        **more,
    }


def test_a_file_that_kills_its_decoder_is_excluded(tmp_path):
    """The decoder of one file dies by a real SIGSEGV, each time."""
    base = tmp_path / "cohorts"
    write_cohort(base / "ours", 24, 3, ["a"])
    write_cohort(base / "theirs", 8, 4, ["a", "b"])
    picture = base / "ours/images/r3005.png"
    picture.write_bytes(picture.read_bytes() + b"POISON")
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(SITECUSTOMISE)
    command = [sys.executable, "-m", "sacro_ray.prepare", str(experiment_file(base, tmp_path / "shards"))]
    done = subprocess.run(command, env=environment(first=[str(tmp_path / "site")]), capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(tmp_path / "shards")
    manifest = read_manifest(tmp_path / "shards", "ours")
    assert [(e.radiograph_id, e.reason) for e in manifest.excluded] == [("r3005", "decoder_crashed")]


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_with_the_same_bytes(tmp_path):
    """SIGKILL of the whole process group, several times, at random moments of the writing; then the run goes on to its end."""
    rng = np.random.default_rng(int(time.time()))
    base = tmp_path / "cohorts"
    (base / "ours/images").mkdir(parents=True)
    rows, readings = ["radiograph_id,patient_id,path"], ["radiograph_id,reader,grade"]
    for i in range(150):
        film = np.random.default_rng(i).integers(0, 4000, (500, 400)).astype(np.uint16)
        (base / f"ours/images/{i}.dcm").write_bytes(dicom_bytes(film, WindowCenter=2000, WindowWidth=4000))
        rows.append(f"f{i},p{i},images/{i}.dcm")
        readings.append(f"f{i},a,{i % 5}")
    (base / "ours/cohort.csv").write_text("\n".join(rows))
    (base / "ours/readings.csv").write_text("\n".join(readings))
    settings = {"name": "kill", "cohorts": {"ours": cohort_settings(base / "ours", "development", ["a"])}}

    def start(shards):
        path = tmp_path / f"{shards.name}.toml"
        path.write_text(tomli_w.dumps({**settings, "prepare": {"shards": str(shards), "samples_per_shard": 5}}))
        command = [sys.executable, "-m", "sacro_ray.prepare", str(path)]
        return subprocess.Popen(command, env=environment(), start_new_session=True, stderr=subprocess.PIPE, text=True)

    undisturbed = start(tmp_path / "undisturbed")
    assert undisturbed.wait(timeout=300) == 0, undisturbed.stderr.read()
    shards, kills, seen = tmp_path / "killed", 0, []
    for _ in range(3):
        process = start(shards)
        before = len(list(shards.rglob("*.tar")))
        target = before + int(rng.integers(1, 15))
        while len(list(shards.rglob("*.tar"))) < target and process.poll() is None:
            time.sleep(0.005)
        time.sleep(float(rng.random()) * 0.05)
        if process.poll() is None:
            kill_tree(process.pid)
            kills += 1
        process.wait()
        seen.append(len(list(shards.rglob("*.tar"))))
    assert kills >= 1
    last = start(shards)
    assert last.wait(timeout=300) == 0, last.stderr.read()
    assert files_of(shards) == files_of(tmp_path / "undisturbed")
    assert seen == sorted(seen)


def kill_tree(pid):
    """SIGKILL a process and all it started, Ray's own processes included."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(status.parent.name)] = int(status.read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
    family = [pid]
    for member in family:
        family += [child for child, parent in parents.items() if parent == member]
    for member in family:
        try:
            os.kill(member, signal.SIGKILL)
        except ProcessLookupError:
            continue


def test_wrong_input_is_one_message(cohorts, tmp_path, capsys):
    def said(change, *arguments):
        settings = settings_of(cohorts, tmp_path / "shards")
        change(settings)
        path = tmp_path / "wrong.toml"
        path.write_text(tomli_w.dumps(settings))
        with pytest.raises(SystemExit) as caught:
            run(prepare.main, [str(path), *arguments])
        assert caught.value.code == 2
        *_, error = capsys.readouterr().err.splitlines()
        assert error.startswith("error: ")
        return error

    assert "prepare.store_size" in said(lambda s: s["prepare"].update(stoer_size=5))
    assert "no table" in said(lambda s: s["cohorts"]["ours"].update(table="absent.csv"))
    assert "store_size = 7" in said(lambda s: None, "--set", "prepare.store_size=7")
    two = tmp_path / "two"
    two.mkdir()
    (two / "images").symlink_to(cohorts / "ours/images")
    (two / "cohort.csv").write_text((cohorts / "ours/cohort.csv").read_text())
    rows = (cohorts / "ours/readings.csv").read_text()
    (two / "readings.csv").write_text(rows + "r1000,b,4\nr1001,b,0\n")
    disagree = cohort_settings(two, "development", ["a", "b", "c"]) | {"consensus": "adjudicated"}
    assert "no third reading settles it, for 1 radiographs: r1000" in said(lambda s: s["cohorts"].update(ours=disagree))
    assert not (tmp_path / "shards").exists()


def test_help_has_an_example(capsys):
    with pytest.raises(SystemExit) as caught:
        prepare.main(["--help"])
    assert caught.value.code == 0
    assert "example: sacro-ray prepare experiments/demo.toml" in capsys.readouterr().out


def test_manifest_is_plain_json(prepared):
    data = json.loads((prepared / "theirs/manifest.json").read_text())
    assert data["schema_version"] == 1
    assert data["role"] == "external_test"
