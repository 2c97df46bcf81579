"""A node killed in the middle of each command that works on several: it goes on on those that are left, and ends as it would have."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pandas as pd
import pytest
import torch
from cohorts import assert_same_run

from sacro_ray.cluster.runtime import ENVIRONMENT
from sacro_ray.learning.run_folder import RunFolder

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(1500)]
QUICK = ["evaluation.bootstrap_repetitions=20", "evaluation.cutoff_repeats=1"]
NODES = Path(__file__).with_name("nodes.py")


# Put before every Python process of the cluster: radiographs are read slowly, so that a node dies while it reads, or over a file it kills.
SLOWLY = """
import os, pathlib, time
whole = pathlib.Path.read_bytes
def read_bytes(self):
    if self.suffix == ".png" and self.name.startswith("r"):
        time.sleep(float(os.environ["SECONDS_A_FILE"]))
    return whole(self)
pathlib.Path.read_bytes = read_bytes
"""


def on_nodes(what: str, given: dict, out: Path, seconds_a_file: float = 0.0) -> tuple[str, str]:
    """Run nodes.py; returns what it said, and its log."""
    file = out.with_suffix(".json")
    file.write_text(json.dumps(given))
    site = out.with_suffix(".site")
    site.mkdir()
    (site / "sitecustomize.py").write_text(SLOWLY)
    path = os.pathsep.join([str(site), str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    more = {"RAY_AUTH_MODE": "disabled", "PYTHONPATH": path, "SECONDS_A_FILE": str(seconds_a_file)}
    done = subprocess.run(
        [sys.executable, str(NODES), what, str(file), str(out)],
        env={**os.environ, **ENVIRONMENT, **more}, capture_output=True, text=True, timeout=1400,
    )  # fmt: skip
    out.with_suffix(".log").write_text(done.stdout + done.stderr)
    assert done.returncode == 0, done.stderr[-6000:]
    return done.stdout, done.stderr


def lose_a_node(what: str, given: dict, out: Path, nodes: int, seconds_a_file: float = 0.0) -> str:
    """Run a command while a node is killed; returns its log."""
    said, log = on_nodes(what, given, out, seconds_a_file)
    # Ray says on the same output that a node is dead.
    killed = re.search(r"^killed (\d+) workers at \d+$", said, re.MULTILINE)
    assert killed is not None, said[-3000:]
    assert int(killed[1]) >= 1
    assert f"\nended with {nodes - 1} of {nodes} nodes\n" in said
    return log


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_training_goes_on_on_the_nodes_that_are_left_and_ends_as_if_undisturbed(experiment, tmp_path):
    values = experiment.as_dict()
    values["name"] = "lost"
    values["training"] |= {"workers": 2, "max_failures": 3}
    values["training"]["stages"] = [
        {"size_px": 32, "batch_size": 8, "frozen_epochs": 2, "unfrozen_epochs": 8},
        {"size_px": 48, "batch_size": 8, "frozen_epochs": 0, "unfrozen_epochs": 2},
    ]
    lose_a_node("train", {"experiment": values}, tmp_path / "runs", 3)
    folder = RunFolder(tmp_path / "runs" / "lost")
    history = pd.read_csv(folder.path / "history.csv")
    assert list(history["epoch"]) == list(range(1, 13))
    weights, description = folder.load_best()
    assert description["auc"] == pytest.approx(history["val_auc"].max())
    assert all(torch.isfinite(value.float()).all() for value in weights.values())
    assert Path(folder.validation_predictions).exists()
    assert "ended with 3 of 3 nodes" in on_nodes("undisturbed", {"experiment": values}, tmp_path / "undisturbed")[0]
    assert_same_run(tmp_path / "undisturbed" / "lost", folder.path)


def test_a_sweep_goes_on_and_no_trial_is_lost_or_fails(experiment, tmp_path):
    values = experiment.as_dict()
    values["name"] = "lost"
    values["search"] |= {
        "trials": 5,
        "early_stopping": False,
        "space": {"training.lr": {"low": 1e-4, "high": 1e-2, "log": True}},
        "stages": [{"size_px": 32, "batch_size": 8, "frozen_epochs": 0, "unfrozen_epochs": 8}],
    }
    lose_a_node("tune", {"experiment": values}, tmp_path / "runs", 3)
    sweep = tmp_path / "runs" / "lost-sweep"
    trials = pd.read_csv(sweep / "trials.csv")
    assert list(trials["number"]) == [0, 1, 2, 3, 4]
    assert set(trials["state"]) == {"COMPLETE"}
    for number, best_auc in zip(trials["number"], trials["best_auc"], strict=True):
        history = pd.read_csv(sweep / "trials" / f"{number:04d}" / "history.csv")
        assert list(history["epoch"]) == list(range(1, 9))
        assert best_auc == pytest.approx(history["val_auc"].max())
    best = trials.loc[trials["best_auc"].idxmax()]
    chosen = tomllib.loads((sweep / "best.toml").read_text())
    assert chosen["training"]["lr"] == pytest.approx(best["training.lr"])


def test_preparing_goes_on_and_the_shards_are_the_same_to_the_byte(experiment, tmp_path):
    """A machine that is lost is no file that ends its process: nothing is tried alone, nothing is left out."""
    log = lose_a_node("prepare", {"experiment": experiment.as_dict()}, tmp_path / "shards", 2, seconds_a_file=0.2)
    assert "a machine of the Ray cluster went away" in log
    assert "tried alone" not in log
    shards = contents(tmp_path / "shards")
    assert shards == contents(tmp_path / "undisturbed")
    assert [name for name in shards if name.endswith(".tar")] == [
        f"ours/{split}/00000{i}.tar" for split, count in (("train", 5), ("validation", 3)) for i in range(count)
    ] + ["theirs/test/000000.tar", "theirs/test/000001.tar"]


def test_scoring_goes_on_and_the_table_is_the_same_to_the_byte(experiment, random_run, tmp_path):
    given = {"experiment": experiment.as_dict(), "run": str(random_run.path), "input": experiment.cohorts["ours"].table}
    lose_a_node("score", given, tmp_path / "scores", 2, seconds_a_file=0.2)
    table = pd.read_csv(tmp_path / "scores" / "scores.csv")
    assert table["status"].tolist() == ["ok"] * 72
    assert (tmp_path / "scores" / "scores.csv").read_bytes() == (tmp_path / "undisturbed" / "scores.csv").read_bytes()


def test_evaluating_goes_on_elsewhere_and_the_report_is_the_same_to_the_byte(experiment, random_run, tmp_path):
    given = {"experiment": experiment.as_dict(), "run": str(random_run.path), "overrides": QUICK}
    log = lose_a_node("evaluate", given, tmp_path / "run", 2)
    assert "a machine of the Ray cluster went away" in log
    assert contents(tmp_path / "run") == contents(tmp_path / "undisturbed")
    assert (tmp_path / "run" / "evaluation" / "report.html").exists()
