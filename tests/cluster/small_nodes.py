"""A Ray of two one-CPU nodes, of which one cannot cache anything: run as `small_nodes.py EXPERIMENT.json RUNS`.

A process of its own, so that its Ray meets no other. Prints what happened, a line each, for test_small_nodes.py.
"""

import json
import logging
import socket
import sys
import time
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

from sacro_ray.cluster import waiting
from sacro_ray.cluster.evaluate_driver import evaluate_run
from sacro_ray.cluster.runtime import ray_session
from sacro_ray.cluster.train_driver import train
from sacro_ray.config import build_experiment
from sacro_ray.errors import UserError


def what_waits(address: str) -> None:
    """An actor, a placement group and a task that no machine holds, and what is said of them."""
    waiting.PATIENCE_S, waiting.LOOK_S = 2.0, 0.5
    with ray_session(address):
        actor = ray.remote(num_cpus=3)(dict).remote()
        pair = ray.util.placement_group([{"CPU": 1}] * 5)
        time.sleep(5)
        ray.util.remove_placement_group(pair)
        ray.kill(actor)


def main(experiment_file: str, runs: str) -> None:
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(message)s")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": True, "dashboard_port": port})
    cluster.add_node(num_cpus=1)
    without_cache = cluster.add_node(num_cpus=1, env_vars={"SACRO_RAY_CACHE": f"{experiment_file}/cache"})  # below a file
    cluster.wait_for_nodes()
    what_waits(cluster.address)
    values, started = json.loads(Path(experiment_file).read_text()), time.monotonic()
    try:
        train(build_experiment(values, ["name=two", "training.workers=2"]), runs, cluster.address)
    except UserError as error:
        print(f"refused after {time.monotonic() - started:.0f} s: {error}", flush=True)
    cluster.remove_node(without_cache)
    run = train(build_experiment(values), runs, cluster.address)
    print("report", evaluate_run(run, [], cluster.address, {}), flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
