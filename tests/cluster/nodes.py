"""A Ray of three one-CPU nodes and a head without CPUs: run as `nodes.py train|tune|undisturbed EXPERIMENT.json RUNS`.

Of `train` and `tune`, one node dies at work; `undisturbed` is the training without.

A process of its own, so that its Ray meets no other. Prints what it did, a line each, for the tests in test_lost_node.py.
"""

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

from sacro_ray.cluster.search import search
from sacro_ray.cluster.train_driver import train
from sacro_ray.config import build_experiment

EPOCHS_BEFORE = 3


def epochs(history: Path) -> int:
    """How many a history.csv holds."""
    return len(history.read_text().splitlines()) - 1 if history.exists() else 0


def strike(cluster: Cluster, nodes: list, under_way: Callable[[], int]) -> None:
    """Once a training is `EPOCHS_BEFORE` epochs old, kill every process of a node that works, at once and without a word."""
    while under_way() < EPOCHS_BEFORE:
        time.sleep(0.05)
    free = ray._private.state.available_resources_per_node()
    victim = next(node for node in nodes if free[node.node_id].get("CPU", 0) < 1)
    raylet = str(victim.all_processes["raylet"][0].process.pid)
    workers = len(subprocess.run(["pgrep", "-f", "-P", raylet, "ray::"], capture_output=True).stdout.split())
    subprocess.run(["pkill", "-KILL", "-P", raylet])
    # Ends the raylet likewise, and everything else of the node.
    cluster.remove_node(victim, allow_graceful=False)
    print(f"killed {workers} workers after epoch {under_way()}", flush=True)


def main(what: str, experiment_file: str, folder: str) -> None:
    experiment, runs = build_experiment(json.loads(Path(experiment_file).read_text())), Path(folder)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": True, "dashboard_port": port})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(3)]
    ray.init(address=cluster.address, log_to_driver=False)
    cluster.wait_for_nodes()
    histories = "*/history.csv" if what == "train" else "*-sweep/trials/*/history.csv"

    def under_way() -> int:
        return max((epochs(path) for path in runs.glob(histories)), default=0)

    striker = threading.Thread(target=strike, args=(cluster, nodes, under_way), daemon=True)
    if what != "undisturbed":
        striker.start()
    if what == "tune":
        search(experiment, runs, resume=False)
    else:
        train(experiment, runs)
    if striker.is_alive():
        striker.join(5)
    print("ended with", sum(node["Alive"] for node in ray.nodes()) - 1, "of 3 nodes", flush=True)
    # In this order: a driver that outlives its node ends with status 1.
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
