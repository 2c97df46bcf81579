"""A node killed in the middle of a two-node training: it ends right, and no epoch is trained twice into the history."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from sacro_ray.learning.run_folder import RunFolder

pytestmark = [pytest.mark.cluster, pytest.mark.ray, pytest.mark.timeout(900)]

# A cluster of its own, in a process of its own: three nodes of one CPU, so that a training of two workers outlives any of them.
SCRIPT = """
import json, os, sys, threading, time
from pathlib import Path
from sacro_ray.cluster.runtime import ENVIRONMENT
os.environ.update(ENVIRONMENT)
import ray
from ray.cluster_utils import Cluster
from sacro_ray.cluster.training import train
from sacro_ray.config import build_experiment

experiment = build_experiment(json.loads(Path(sys.argv[1]).read_text()))
runs, history = Path(sys.argv[2]), Path(sys.argv[2]) / experiment.name / "history.csv"
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": True})
nodes = [cluster.add_node(num_cpus=1) for _ in range(3)]
ray.init(address=cluster.address)
cluster.wait_for_nodes()

def busy():
    free = ray._private.state.available_resources_per_node()
    return [node for node in nodes if free[node.node_id].get("CPU", 0) < 1]

def strike():
    while not history.exists() or len(history.read_text().splitlines()) < 4:
        time.sleep(0.05)
    victim = busy()[0]
    cluster.remove_node(victim, allow_graceful=False)
    print("KILLED after epoch", len(history.read_text().splitlines()) - 1, flush=True)

striker = threading.Thread(target=strike, daemon=True)
striker.start()
train(experiment, runs)
striker.join(5)
print("DONE", flush=True)
"""


def test_a_training_goes_on_on_the_nodes_that_are_left(experiment, tmp_path):
    values = experiment.as_dict()
    values["name"] = "lost"
    values["training"] |= {"workers": 2, "max_failures": 3}
    values["training"]["stages"] = [
        {"size_px": 32, "batch_size": 8, "frozen_epochs": 2, "unfrozen_epochs": 10},
        {"size_px": 48, "batch_size": 8, "frozen_epochs": 0, "unfrozen_epochs": 4},
    ]
    (tmp_path / "experiment.json").write_text(json.dumps(values))
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "experiment.json"), str(tmp_path / "runs")],
        env={**os.environ, "RAY_AUTH_MODE": "disabled"}, capture_output=True, text=True, timeout=850,
    )  # fmt: skip
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["KILLED", "DONE"], (
        done.stdout[-3000:] + done.stderr[-6000:]
    )
    folder = RunFolder(tmp_path / "runs" / "lost")
    history = pd.read_csv(folder.path / "history.csv")
    assert list(history["epoch"]) == list(range(1, 17))
    weights, description = folder.load_best()
    assert description["auc"] == pytest.approx(history["val_auc"].max())
    assert all(torch.isfinite(value.float()).all() for value in weights.values())
    assert Path(folder.validation_predictions).exists()
