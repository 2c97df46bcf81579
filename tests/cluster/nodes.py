"""A Ray of one-CPU nodes and a head without CPUs, of which one dies at work: run as `nodes.py COMMAND GIVEN.json OUT`.

COMMAND is train, tune, prepare, score or evaluate, GIVEN.json an experiment and what else the command takes. `train` and `tune` have three
nodes; `undisturbed` is a training in which none dies. The others have two; they run once more, undisturbed, on the one that is left.

A process of its own, so that its Ray meets no other. Prints what it did, a line each, for the tests in test_lost_node.py.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster

from sacro_ray.cluster.evaluate_driver import evaluate_run
from sacro_ray.cluster.prepare_driver import prepare_cohorts
from sacro_ray.cluster.score_driver import score_input
from sacro_ray.cluster.search import search
from sacro_ray.cluster.train_driver import train
from sacro_ray.config import Experiment, build_experiment


@dataclass(frozen=True)
class Command:
    """What runs, how far it is, and when a node dies."""

    run: Callable[[], object]
    progress: Callable[[], int]
    strike_at: int
    nodes: int = 2
    delay_s: float = 0.0


def epochs(history: Path) -> int:
    """How many a history.csv holds."""
    return len(history.read_text().splitlines()) - 1 if history.exists() else 0


def command_for(what: str, experiment: Experiment, given: dict[str, Any], out: Path) -> Command:
    """The command, which leaves its results below `out`."""
    if what in ("train", "undisturbed"):
        return Command(
            lambda: train(experiment, out), lambda: max((epochs(p) for p in out.glob("*/history.csv")), default=0), 3, 3
        )
    if what == "tune":
        trials = "*-sweep/trials/*/history.csv"
        return Command(
            lambda: search(experiment, out, resume=False), lambda: max((epochs(p) for p in out.glob(trials)), default=0), 3, 3
        )
    if what == "prepare":
        there = build_experiment(experiment.as_dict(), [f"prepare.shards={out}"])
        # A shard takes two seconds: one has just ended, and a second later both nodes are in the middle of another.
        return Command(lambda: prepare_cohorts(there), lambda: len(list(out.glob("*/*/*.tar"))), 2, delay_s=1.0)
    if what == "score":
        return Command(
            lambda: score_input(given["run"], given["input"], out), lambda: len(list(out.glob(".parts/0*.parquet"))), 2
        )
    shutil.copytree(given["run"], out)
    # The network is about to score the external test cohort.
    return Command(
        lambda: evaluate_run(out, given["overrides"], None, {}), lambda: len(list(out.glob("predictions/test.json"))), 1
    )


def strike(cluster: Cluster, nodes: list, command: Command) -> None:
    """Once the command is so far, kill every process of a node that works, at once and without a word."""
    while command.progress() < command.strike_at:
        time.sleep(0.02)
    time.sleep(command.delay_s)
    free = ray._private.state.available_resources_per_node()
    victim = next(node for node in nodes if free[node.node_id].get("CPU", 0) < 1)
    raylet = victim.all_processes["raylet"][0].process.pid
    children = [int(pid) for pid in subprocess.run(["pgrep", "-P", str(raylet)], capture_output=True).stdout.split()]
    workers = subprocess.run(["pgrep", "-f", "-P", str(raylet), "ray::"], capture_output=True).stdout.split()
    for kind in (signal.SIGSTOP, signal.SIGKILL):  # as when the power goes: none sees another die first
        for pid in (raylet, *children):
            os.kill(pid, kind)
    cluster.remove_node(victim, allow_graceful=False)
    print(f"killed {len(workers)} workers at {command.progress()}", flush=True)


def main(what: str, given_file: str, folder: str) -> None:
    given = json.loads(Path(given_file).read_text())
    experiment, out = build_experiment(given["experiment"]), Path(folder)
    command = command_for(what, experiment, given, out)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": True, "dashboard_port": port})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(command.nodes)]
    ray.init(address=cluster.address, log_to_driver=False)
    cluster.wait_for_nodes()
    striker = threading.Thread(target=strike, args=(cluster, nodes, command), daemon=True)
    if what != "undisturbed":
        striker.start()
    started = time.monotonic()
    command.run()
    if striker.is_alive():
        striker.join(5)
    # The command may know sooner than Ray's own table that a node is gone.
    expected = command.nodes - (what != "undisturbed")
    deadline = time.monotonic() + 60
    while (left := sum(node["Alive"] for node in ray.nodes()) - 1) > expected and time.monotonic() < deadline:
        time.sleep(0.2)
    print(f"ended with {left} of {command.nodes} nodes", flush=True)
    print(f"after {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    if what in ("prepare", "score", "evaluate"):
        command_for(what, experiment, given, out.with_name("undisturbed")).run()
    # In this order: a driver that outlives its node ends with status 1.
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    import logging

    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(relativeCreated)d %(message)s")
    main(*sys.argv[1:])
