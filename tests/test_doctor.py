"""`doctor`: what works on this machine, without starting Ray."""

import shutil
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from disks import as_nobody

from sacro_ray import doctor
from sacro_ray.__main__ import COMMANDS
from sacro_ray.dataset import machine
from sacro_ray.dataset.decoded import ALL


def test_the_last_line_sums_up_what_was_found(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SACRO_RAY_CACHE", str(tmp_path / "cache"))
    summary = doctor.main([])
    printed = capsys.readouterr().out
    assert summary.startswith("all commands can run here")
    for word in (
        "Python 3.",
        "torch ",
        "ray ",
        "processors",
        "GiB of memory",
        "GPUs",
        "/dev/shm",
        "temporary folder",
        str(tmp_path / "cache"),
    ):
        assert word in printed
    assert "0 decoded, 0.0 MiB" in printed
    assert "doctor" in COMMANDS
    assert not (tmp_path / "cache").exists(), "nothing is changed"


@pytest.mark.parametrize(
    ("finding", "said"),
    [
        (
            doctor.Finding("decoders", ["none"], remark="openjpeg not installed"),
            "all commands can run here; remarks on decoders",
        ),
        (doctor.Finding("home", ["/x"], problem="/x: the disk is full"), None),
    ],
)
def test_a_problem_is_status_1_and_a_remark_is_not(capsys, monkeypatch, finding, said):
    for look in (
        "versions",
        "machine",
        "gpus",
        "shared_memory",
        "temporary_folder",
        "home_folder",
        "working_folder",
        "decoders",
        "caches",
    ):
        monkeypatch.setattr(doctor, look, lambda: doctor.Finding("x", ["fine"]))
    monkeypatch.setattr(doctor, "caches", lambda: finding)
    if said:
        assert doctor.main([]) == said
        return
    with pytest.raises(SystemExit) as ended:
        doctor.main([])
    assert ended.value.code == 1
    assert capsys.readouterr().out.splitlines()[-1] == "commands cannot run here: home"


def test_a_folder_of_caches_that_is_somebody_elses_is_a_problem_of_that_folder_alone(monkeypatch):
    folder = Path(tempfile.mkdtemp(dir="/tmp"))  # below a folder that nobody may enter it would not be found
    try:
        folder.chmod(0o755)
        (folder / ALL).touch()
        monkeypatch.setenv("SACRO_RAY_CACHE", str(folder))
        with as_nobody():
            looked, home = doctor.caches(), doctor.home_folder()
        assert looked.lines[0] == f"what lies in {folder} cannot be looked at"
        assert "this user has no permission there" in home.problem
        assert "set SACRO_RAY_CACHE" not in home.remark
    finally:
        shutil.rmtree(folder)


def test_a_home_that_cannot_be_reached_is_no_traceback(tmp_path, monkeypatch):
    closed = tmp_path / "closed"
    (closed / "home").mkdir(parents=True)
    closed.chmod(0o700)
    monkeypatch.setenv("HOME", str(closed / "home"))
    monkeypatch.setenv("SACRO_RAY_CACHE", str(closed / "home" / "cache"))
    with as_nobody():
        looked, home = doctor.caches(), doctor.home_folder()
    assert looked.lines
    assert home.lines[0] == "none"
    assert "the home cannot be used" in home.remark


def test_a_container_has_what_its_limits_leave(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    everything = machine.memory().total
    (tmp_path / "cpu.max").write_text("100000 100000\n")
    (tmp_path / "memory.max").write_text(f"{2**30}\n")
    (tmp_path / "memory.current").write_text(f"{2**29}\n")
    assert machine.processors() == 1
    assert machine.memory() == machine.Memory(2**30, 2**29)
    (tmp_path / "cpu.max").write_text("max 100000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert machine.processors() >= 1
    assert machine.memory().total == everything


def test_small_shared_memory_is_a_remark(monkeypatch):
    usage = SimpleNamespace(total=64 * 2**20, free=64 * 2**20)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda place: usage)
    assert "docker run --shm-size" in doctor.shared_memory().remark
    assert sys.version.split()[0] in doctor.versions().lines[0]
