"""Sweeps that are killed with real signals, and many trials in one sweep. Slow: each start of Ray takes seconds."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
import ray
import ray.tune
from cohorts import cohort_settings, prepare_here, write_cohort
from optuna.trial import TrialState
from PIL import Image
from ray.util.placement_group import placement_group_table
from ray.util.state import list_actors

from sacro_ray.cluster.search import search
from sacro_ray.cluster.sweep_folder import SweepFolder
from sacro_ray.cluster.sweep_rungs import reporter
from sacro_ray.config import build_experiment
from sacro_ray.learning.run_folder import RunFolder

pytestmark = [pytest.mark.slow, pytest.mark.ray]
TRIALS = 6
TWO_PHASES = "search.stages=[{size_px=48, batch_size=8, frozen_epochs=1, unfrozen_epochs=7}]"
PATIENCE_S = 900
"""No test times anything: on a machine that is busy with other work an epoch takes a minute."""


class Sweep:
    """`tune` in a session of its own, whose processes are known by that, also when their parents are gone."""

    def __init__(self, file: Path, runs: Path, *arguments: str) -> None:
        self.folder = SweepFolder(runs / "faint-sweep")
        command = [sys.executable, "-m", "sacro_ray.tune", str(file), "--runs", str(runs), "--address", "local", *arguments]
        self.log = runs.parent / f"{runs.name}.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, start_new_session=True, stdout=subprocess.PIPE, stderr=log, text=True,
                # Tests that a shell started in the background were told to ignore Ctrl-C, and children inherit that.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )  # fmt: skip

    def wait_until(self, happened: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not happened():
            assert self.process.poll() is None, "the sweep ended too early"
            assert time.monotonic() < deadline
            time.sleep(0.002)

    def epochs_of(self, number: int) -> int:
        history = self.folder.trial(number) / "history.csv"
        return max(0, len(history.read_text().splitlines()) - 1) if history.exists() else 0

    def family(self, name: str = "") -> list[int]:
        """Processes of this sweep that live, with `name` in their command line."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                state, _, _, session = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
                if int(session) == self.process.pid and state != "Z" and name in (folder / "cmdline").read_text():
                    found.append(int(folder.name))
            except OSError:
                continue
        return found

    def kill(self) -> None:
        """SIGKILL to the driver and all in its process group."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def wait_for_the_family(self) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while self.family():
            assert time.monotonic() < deadline, "processes outlive their driver"
            time.sleep(0.1)

    def finish(self) -> str:
        """The last line of standard output."""
        out, _ = self.process.communicate(timeout=PATIENCE_S)
        assert self.process.returncode == 0, self.log.read_text()
        return out.splitlines()[-1]


@pytest.fixture
def sweep(tmp_path):
    """Starts sweeps; none outlives the test."""
    started = []

    def start(file: Path, name: str, *arguments: str) -> Sweep:
        started.append(Sweep(file, tmp_path / name, *arguments))
        return started[-1]

    yield start
    for one in started:
        for pid in one.family():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        one.process.wait()


@pytest.fixture(scope="module")
def faint(experiment, tmp_path_factory):
    """An experiment whose positive films differ so little from the others that trials reach AUCs of all kinds."""
    base = tmp_path_factory.mktemp("faint")
    cohort = write_cohort(base / "ours", 72, 3, ["a"], splits=True)
    rng = np.random.default_rng(3)
    for path in (cohort / "images").iterdir():
        pixels = np.asarray(Image.open(path)).astype(float)
        Image.fromarray((pixels * 0.08 + rng.integers(40, 160, pixels.shape)).astype(np.uint8)).save(path)
    data = experiment.as_dict() | {"name": "faint", "cohorts": {"ours": cohort_settings(cohort, "development", ["a"])}}
    data["prepare"]["shards"] = str(base / "shards")
    overrides = [TWO_PHASES, f"search.trials={TRIALS}", "search.reduction_factor=2.0"]
    found = build_experiment(data, [*overrides, "search.space.training.lr={low=1e-5, high=1e-2, log=true}"])
    prepare_here(found)
    return found


@pytest.fixture
def file(faint, tmp_path):
    path = tmp_path / "faint.toml"
    path.write_text(faint.as_toml())
    return path


def results_of(folder: SweepFolder) -> pd.DataFrame:
    return pd.read_csv(folder.path / "trials.csv").drop(columns="seconds")


def study_of(folder: SweepFolder) -> list[tuple[TrialState, float | None, dict[str, Any], dict[int, float]]]:
    study = optuna.load_study(study_name="faint", storage=f"sqlite:///{folder.path}/study.db")
    return [(t.state, t.value, t.params, t.intermediate_values) for t in study.trials]


@pytest.mark.timeout(4 * PATIENCE_S)
def test_killed_at_three_moments_it_ends_as_if_undisturbed(faint, file, sweep):
    undisturbed = sweep(file, "undisturbed")
    assert undisturbed.finish() == str(undisturbed.folder.path / "best.toml")
    expected = results_of(undisturbed.folder)
    assert {"COMPLETE", "PRUNED"} == set(expected["state"])
    assert expected["best_auc"].nunique() > 3

    in_an_epoch = sweep(file, "killed")
    in_an_epoch.wait_until(lambda: in_an_epoch.epochs_of(0) >= 2)
    in_an_epoch.kill()
    assert not in_an_epoch.folder.has_ended(0)
    in_an_epoch.wait_for_the_family()

    between = sweep(file, "killed", "--resume")
    between.wait_until(lambda: between.folder.has_ended(2))
    between.kill()
    between.wait_for_the_family()
    assert [record["number"] for record in between.folder.records()] == [0, 1, 2]
    ended = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in between.folder.trials.glob("*/trial.json")}
    ended |= {
        p.parent / "history.csv": ((h := p.parent / "history.csv").read_bytes(), h.stat().st_mtime_ns) for p in list(ended)
    }

    # The driver alone, in the last trial; what it started still lives when the next one begins.
    alone = sweep(file, "killed", "--resume")
    alone.wait_until(lambda: alone.epochs_of(TRIALS - 1) >= 1 or alone.folder.has_ended(TRIALS - 1))
    os.kill(alone.process.pid, signal.SIGKILL)
    alone.process.wait()

    end = sweep(file, "killed", "--resume")
    assert end.finish() == str(end.folder.path / "best.toml")
    # No finished trial is run again: its files are those that the killed sweeps wrote.
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in ended} == ended
    assert results_of(end.folder)["number"].tolist() == list(range(TRIALS))
    assert len(list(end.folder.trials.iterdir())) == TRIALS
    pd.testing.assert_frame_equal(results_of(end.folder), expected, check_exact=True)
    assert study_of(end.folder) == study_of(undisturbed.folder)
    assert (end.folder.path / "best.toml").read_text() == (undisturbed.folder.path / "best.toml").read_text()
    assert len(list(end.folder.trials.glob("*/checkpoints/best.pt"))) == faint.search.keep_checkpoints
    assert not list(end.folder.trials.glob("*/checkpoints/latest.pt"))


@pytest.mark.timeout(3 * PATIENCE_S)
def test_two_trials_at_once_outlive_a_lost_process_and_a_killed_driver(file, sweep):
    several = ["--set", "search.cpus_per_trial=1.0", "--set", "search.early_stopping=false", "--trials", "5"]
    first = sweep(file, "runs", *several)
    first.wait_until(lambda: first.epochs_of(0) >= 1 and first.epochs_of(1) >= 1)
    victim = first.family("ray::ImplicitFunc")[0]
    os.kill(victim, signal.SIGKILL)
    first.wait_until(lambda: len(first.folder.records()) >= 2)
    first.kill()
    first.wait_for_the_family()
    ended = first.folder.records()
    assert {record["state"] for record in ended} == {"COMPLETE"}
    assert "lost its process" in first.log.read_text()
    assert "goes on with it" in first.log.read_text()
    again = sweep(file, "runs", *several, "--resume")
    again.finish()
    records = again.folder.records()
    assert [record for record in records if record["number"] in {r["number"] for r in ended}] == ended
    assert [(r["number"], r["state"], r["epochs"]) for r in records] == [(number, "COMPLETE", 8) for number in range(5)]
    assert len(study_of(again.folder)) == 5


@pytest.mark.timeout(3 * PATIENCE_S)
def test_ctrl_c_says_how_to_go_on_and_leaves_a_sweep_that_does(file, sweep):
    stopped = sweep(file, "runs", "--trials", "2")
    stopped.wait_until(lambda: stopped.epochs_of(0) >= 1)
    stopped.process.send_signal(signal.SIGINT)
    stopped.process.communicate(timeout=PATIENCE_S)
    assert stopped.process.returncode == 130
    stopped.wait_for_the_family()
    said = stopped.log.read_text()
    line = said.splitlines()[-1]
    assert line.startswith("interrupted; finished trials and epochs are kept; to go on: python -m sacro_ray.tune ")
    assert line.endswith(" --resume")
    assert said.count("interrupted") == 1
    assert "Traceback" not in said
    again = sweep(file, "runs", "--trials", "2", "--resume")
    again.finish()
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
    # Unless told, it asks the Ray that was started last on this machine, be it gone or not.
    actors = list_actors(address=ray.get_runtime_context().gcs_address, limit=1000)
    assert not [actor for actor in actors if actor.state in ("ALIVE", "PENDING_CREATION", "RESTARTING")]
    deadline = time.monotonic() + 30
    while ray.available_resources().get("CPU") != ray.cluster_resources()["CPU"]:
        assert time.monotonic() < deadline, "a CPU is still held"
        time.sleep(0.2)
