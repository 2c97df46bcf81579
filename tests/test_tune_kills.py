"""Sweeps that are killed with real signals, and many trials in one sweep. Slow: each start of Ray takes seconds."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path

import pandas as pd
import pytest
import ray
import ray.tune
from ray.util.placement_group import placement_group_table
from ray.util.state import list_actors

from sacro_ray.cluster.search import search
from sacro_ray.cluster.sweep_folder import SweepFolder
from sacro_ray.cluster.sweep_rungs import reporter
from sacro_ray.config import build_experiment
from sacro_ray.learning.run_folder import RunFolder

pytestmark = [pytest.mark.slow, pytest.mark.ray]
TRIALS = 6
TWO_PHASES = "search.stages=[{size_px=64, batch_size=8, frozen_epochs=1, unfrozen_epochs=5}]"


class Sweep:
    """`tune` in a process group of its own."""

    def __init__(self, file: Path, runs: Path, *arguments: str) -> None:
        self.folder = SweepFolder(runs / "small-sweep")
        command = [sys.executable, "-m", "sacro_ray.tune", str(file), "--runs", str(runs), "--address", "local", *arguments]
        self.log = (runs.parent / f"{runs.name}.log").open("ab")
        self.process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE, stderr=self.log, text=True)

    def wait_until(self, happened: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 240
        while not happened():
            assert self.process.poll() is None, "the sweep ended too early"
            assert time.monotonic() < deadline
            time.sleep(0.002)

    def epochs_of(self, number: int) -> int:
        history = self.folder.trial(number) / "history.csv"
        return max(0, len(history.read_text().splitlines()) - 1) if history.exists() else 0

    def has_ended(self, number: int) -> bool:
        return (self.folder.trial(number) / "trial.json").exists()

    def kill(self) -> None:
        """SIGKILL to the whole process group; waits until nothing that it started is left."""
        family = descendants(self.process.pid)
        assert len(family) > 3
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        deadline = time.monotonic() + 60
        while [pid for pid in family if is_alive(pid)]:
            assert time.monotonic() < deadline, "processes outlived their driver by a minute"
            time.sleep(0.1)

    def finish(self) -> str:
        out, _ = self.process.communicate(timeout=280)
        return out


def descendants(pid: int) -> list[int]:
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(status.parent.name)] = int(status.read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
    family = [pid]
    for member in family:
        family += [child for child, parent in parents.items() if parent == member]
    return family


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def file(experiment, tmp_path):
    path = tmp_path / "small.toml"
    small = build_experiment(experiment.as_dict(), [TWO_PHASES, f"search.trials={TRIALS}", "search.reduction_factor=2.0"])
    path.write_text(small.as_toml())
    return path


def results_of(folder: SweepFolder) -> pd.DataFrame:
    return pd.read_csv(folder.path / "trials.csv").drop(columns="seconds")


@pytest.mark.timeout(1200)
def test_killed_at_three_moments_it_ends_as_if_undisturbed(file, tmp_path):
    undisturbed = Sweep(file, tmp_path / "undisturbed")
    assert undisturbed.finish().splitlines()[-1] == str(undisturbed.folder.path / "best.toml")

    runs = tmp_path / "killed"
    first = Sweep(file, runs)
    first.wait_until(lambda: first.epochs_of(0) >= 2)
    first.kill()
    assert not first.has_ended(0)
    done_before = first.epochs_of(0)

    between = Sweep(file, runs, "--resume")
    between.wait_until(lambda: between.has_ended(2))
    between.kill()
    assert between.epochs_of(3) == 0
    ended = {path: path.read_bytes() for path in between.folder.trials.glob("*/trial.json")}
    kept = {path: path.stat().st_mtime_ns for number in range(3) for path in [between.folder.trial(number) / "history.csv"]}
    assert len(ended) == 3

    last = Sweep(file, runs, "--resume")
    last.wait_until(lambda: last.epochs_of(TRIALS - 1) >= 1 or last.has_ended(TRIALS - 1))
    last.kill()
    assert not (last.folder.path / "study.db").exists() or len(last.folder.records()) >= TRIALS - 1

    end = Sweep(file, runs, "--resume")
    assert end.finish().splitlines()[-1] == str(end.folder.path / "best.toml")
    # No finished trial is run again: its files are those that the killed sweeps wrote.
    assert {path: path.read_bytes() for path in ended} == ended
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert done_before >= 2
    table = results_of(end.folder)
    assert table["number"].tolist() == list(range(TRIALS))
    assert len(list(end.folder.trials.iterdir())) == TRIALS
    pd.testing.assert_frame_equal(table, results_of(undisturbed.folder), check_exact=True)
    assert (end.folder.path / "best.toml").read_text() == (undisturbed.folder.path / "best.toml").read_text()
    kept_weights = list(end.folder.trials.glob("*/checkpoints/best.pt"))
    assert 0 < len(kept_weights) <= 3
    assert not list(end.folder.trials.glob("*/checkpoints/latest.pt"))


@pytest.mark.timeout(600)
def test_ctrl_c_says_how_to_go_on_and_leaves_a_sweep_that_does(file, tmp_path):
    sweep = Sweep(file, tmp_path / "runs", "--trials", "2")
    sweep.wait_until(lambda: sweep.epochs_of(0) >= 1)
    family = descendants(sweep.process.pid)
    sweep.process.send_signal(signal.SIGINT)
    sweep.finish()
    assert sweep.process.returncode == 130
    assert not [pid for pid in family if is_alive(pid)]
    log = (tmp_path / "runs.log").read_text()
    assert "--resume goes on with it" in log
    assert "Traceback" not in log
    again = Sweep(file, tmp_path / "runs", "--trials", "2", "--resume")
    again.finish()
    assert again.process.returncode == 0
    assert results_of(again.folder)["number"].tolist() == [0, 1]


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def cheap_trial(config, experiment, trials, worker):
    """A trial that trains nothing: an AUC by formula, an epoch at a time, with the files and the reports of a real one."""
    mine = build_experiment(experiment)
    folder = RunFolder(Path(trials) / f"{config['number']:04d}")
    folder.claim(mine)
    tell, values = reporter(mine, ray.tune.report), config["values"]
    if config["number"] % 40 == 39:
        raise ValueError("one of the failures that a long sweep has")
    top = 0.9 - 1e3 * (values["training.lr"] - 0.003) ** 2 - 0.05 * values["training.mixup_alpha"]
    aucs = [top - 0.3 / epoch for epoch in range(1, 7)]
    rows = [
        {"epoch": e, "stage": 1, "size_px": 64, "phase": "frozen" if e == 1 else "unfrozen", "lr": values["training.lr"],
         "train_loss": 0.5, "val_auc": auc, "best_val_auc": best, "images_per_s": 1.0, "seconds": 0.1}
        for e, (auc, best) in enumerate(zip(aucs, accumulate(aucs, max), strict=True), 1)
    ]  # fmt: skip
    for row in rows:
        folder.save_history(rows[: row["epoch"]])
        (folder.path / "process").write_text(f"{os.getpid()} {resident_mib():.1f}")
        tell(row)


# The workers of Ray do not find the modules of tests.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.mark.timeout(1200)
@pytest.mark.usefixtures("local_ray")
def test_two_hundred_trials_with_flat_memory_and_nothing_left_behind(experiment, tmp_path, monkeypatch):
    many = build_experiment(experiment.as_dict(), [TWO_PHASES, "search.trials=200"])
    folder, driver = SweepFolder(tmp_path / "small-sweep"), {}
    keep = SweepFolder.keep

    def keep_and_weigh(self, record):
        driver[record["number"]] = resident_mib()
        keep(self, record)

    monkeypatch.setattr(SweepFolder, "keep", keep_and_weigh)
    search(many, tmp_path, resume=False, trial=cheap_trial)
    records = folder.records()
    assert [r["number"] for r in records] == list(range(200))
    states = [r["state"] for r in records]
    assert states.count("FAIL") == 5
    assert states.count("PRUNED") > 50
    seen = {r["number"]: (folder.trial(r["number"]) / "process") for r in records if r["state"] != "FAIL"}
    processes = {number: path.read_text().split() for number, path in seen.items()}
    by_process: dict[str, list[float]] = {}
    for number in sorted(processes):
        by_process.setdefault(processes[number][0], []).append(float(processes[number][1]))
    print({pid: (len(sizes), sizes[0], sizes[-1]) for pid, sizes in by_process.items()}, driver[20], driver[100], driver[199])
    # A worker is replaced only after a failure; neither it nor the driver grows with the trials.
    assert len(by_process) <= 6
    assert all(sizes[-1] - sizes[0] < 20 for sizes in by_process.values())
    assert driver[199] - driver[100] < 30
    assert {group["state"] for group in placement_group_table().values()} <= {"REMOVED"}
    assert not [actor for actor in list_actors(limit=1000) if actor.state in ("ALIVE", "PENDING_CREATION", "RESTARTING")]
    deadline = time.monotonic() + 30
    while ray.available_resources().get("CPU") != ray.cluster_resources()["CPU"]:
        assert time.monotonic() < deadline, "a CPU is still held"
        time.sleep(0.2)
