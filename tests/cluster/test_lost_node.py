"""A node killed in the middle of a two-node training and of a sweep: both go on on the nodes that are left, and end as they would have."""

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
NODES = Path(__file__).with_name("nodes.py")


def on_three_nodes(what: str, values: dict, runs: Path) -> str:
    """Run nodes.py; answers what it said."""
    given = runs.with_suffix(".json")
    given.write_text(json.dumps(values))
    done = subprocess.run(
        [sys.executable, str(NODES), what, str(given), str(runs)],
        env={**os.environ, **ENVIRONMENT, "RAY_AUTH_MODE": "disabled"}, capture_output=True, text=True, timeout=1400,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-6000:]
    return done.stdout


def lose_a_node(what: str, values: dict, tmp_path: Path) -> Path:
    """Train or tune while a node is killed; answers the folder of the runs."""
    said = on_three_nodes(what, values, tmp_path / "runs")
    # Ray says on the same output that a node is dead.
    killed = re.search(r"^killed (\d+) workers after epoch \d+$", said, re.MULTILINE)
    assert killed is not None, said[-3000:]
    assert int(killed[1]) >= 1
    assert "\nended with 2 of 3 nodes\n" in said
    return tmp_path / "runs"


def test_a_training_goes_on_on_the_nodes_that_are_left_and_ends_as_if_undisturbed(experiment, tmp_path):
    values = experiment.as_dict()
    values["name"] = "lost"
    values["training"] |= {"workers": 2, "max_failures": 3}
    values["training"]["stages"] = [
        {"size_px": 32, "batch_size": 8, "frozen_epochs": 2, "unfrozen_epochs": 8},
        {"size_px": 48, "batch_size": 8, "frozen_epochs": 0, "unfrozen_epochs": 2},
    ]
    folder = RunFolder(lose_a_node("train", values, tmp_path) / "lost")
    history = pd.read_csv(folder.path / "history.csv")
    assert list(history["epoch"]) == list(range(1, 13))
    weights, description = folder.load_best()
    assert description["auc"] == pytest.approx(history["val_auc"].max())
    assert all(torch.isfinite(value.float()).all() for value in weights.values())
    assert Path(folder.validation_predictions).exists()
    assert "ended with 3 of 3 nodes" in on_three_nodes("undisturbed", values, tmp_path / "undisturbed")
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
    sweep = lose_a_node("tune", values, tmp_path) / "lost-sweep"
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
