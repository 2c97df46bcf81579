"""The command killed, a worker killed, and a file that kills whatever reads it: nothing missing, nothing twice, no endless loop."""

import csv
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sacro_ray.learning.run_folder import RunFolder

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]

FILMS = 96
PART = FILMS // 16

# Put before every Python process of the run: notes who reads what, slowly, and ends the process over certain files.
SPY = """
import os, pathlib, signal, time
whole = pathlib.Path.read_bytes
def read_bytes(self):
    folder = os.environ.get("SPY")
    if folder and self.name.startswith("film"):
        with open(os.path.join(folder, "reads"), "a") as notes:
            notes.write(self.name + "\\n")
        time.sleep(0.1)
        once = pathlib.Path(folder, self.name)
        if "poison" in self.name or ("once" in self.name and not once.exists()):
            once.touch()
            os.kill(os.getpid(), signal.SIGKILL)
    return whole(self)
pathlib.Path.read_bytes = read_bytes
"""


@pytest.fixture
def spied(tmp_path) -> dict[str, str]:
    """Environment of a command whose reading is watched."""
    (tmp_path / "spy").mkdir()
    (tmp_path / "spy" / "sitecustomize.py").write_text(SPY)
    path = os.pathsep.join([str(tmp_path / "spy"), str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path, "SPY": str(tmp_path / "spy")}


def write_films(folder: Path, names: list[str]) -> None:
    folder.mkdir()
    rng = np.random.default_rng(1)
    for name in names:
        Image.fromarray(rng.integers(0, 255, (48, 48), dtype=np.uint8)).save(folder / name)


def command(run: RunFolder, films: Path, out: Path) -> list[str]:
    return [sys.executable, "-m", "sacro_ray.score", "--run", str(run.path), "--input", str(films), "--out", str(out)]


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def reads(spied: dict[str, str]) -> Counter[str]:
    return Counter(Path(spied["SPY"], "reads").read_text().split())


def test_killed_and_started_again_nothing_is_missing_twice_or_scored_again(tmp_path, random_run, spied):
    names = [f"film{i:03d}.png" for i in range(FILMS)]
    write_films(tmp_path / "films", names)
    out = tmp_path / "scores"
    with subprocess.Popen(
        command(random_run, tmp_path / "films", out), env=spied, start_new_session=True, stderr=subprocess.DEVNULL
    ) as process:
        deadline = time.monotonic() + 600
        while len(list(out.glob(".parts/0*.parquet"))) < 3 and time.monotonic() < deadline:
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
    complete = {int(path.stem) for path in out.glob(".parts/0*.parquet")}
    assert 3 <= len(complete) < 16, "to be killed in the middle"
    assert not (out / "scores.csv").exists()
    # Notes of its own: workers of the killed run may live, and read, a moment longer.
    spied["SPY"] = str(tmp_path / "again")
    Path(spied["SPY"]).mkdir()
    done = subprocess.run(command(random_run, tmp_path / "films", out), env=spied, capture_output=True, text=True, check=True)
    assert f"going on: {len(complete) * PART} of {FILMS}" in done.stderr
    rows = rows_of(Path(done.stdout.splitlines()[-1]))
    assert [row["input"] for row in rows] == names
    assert {row["status"] for row in rows} == {"ok"}
    left = [name for i, name in enumerate(names) if i // PART not in complete]
    assert reads(spied) == Counter(left), "each that was not complete is read once, no other"


def test_a_dying_worker_costs_a_retry_and_a_poison_file_ends_as_an_error(tmp_path, random_run, spied):
    names = [f"film{i:03d}.png" for i in range(24)]
    names[5], names[14] = "film005-once.png", "film014-poison.png"
    write_films(tmp_path / "films", names)
    done = subprocess.run(
        command(random_run, tmp_path / "films", tmp_path / "scores"),
        env=spied,
        capture_output=True,
        text=True,
        check=True,
        timeout=280,
    )
    rows = rows_of(Path(done.stdout.splitlines()[-1]))
    assert [row["input"] for row in rows] == names
    errors = {row["input"]: row["error"].split(":")[0] for row in rows if row["status"] == "error"}
    assert errors == {"film014-poison.png": "decoder_crashed"}
    twice = {name for name, times in reads(spied).items() if times > 1}
    # Parts of two: only the parts in which a worker died are read again.
    assert twice <= {"film004.png", "film005-once.png", "film014-poison.png", "film015.png"}
    assert {"film005-once.png", "film014-poison.png"} <= twice
    assert max(reads(spied).values()) == 2
    assert "24 radiographs: 23 scored, 1 could not be" in done.stderr
