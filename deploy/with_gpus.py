"""Run a command on a Ray cluster once it has the GPUs, and let them go afterwards: `python deploy/with_gpus.py 4 -- COMMAND ...`.

A training divides itself over the GPUs that are there when it starts; on a cluster that grows from nothing there are none yet, and a
request that stands also brings a replacement for each spot machine that is taken away. The exit status is the command's.
"""

import subprocess
import sys
import time

import ray
from ray.autoscaler.sdk import request_resources

POLL_S = 5.0


def main(argv: list[str]) -> int:
    """Ask for the GPUs, wait, run, release."""
    if len(argv) < 3 or not argv[0].isdigit() or argv[1] != "--":
        print("usage: python deploy/with_gpus.py GPUS -- COMMAND ...", file=sys.stderr)
        return 2
    wanted, command = int(argv[0]), argv[2:]
    ray.init(address="auto", log_to_driver=False)
    request_resources(bundles=[{"GPU": 1}] * wanted)
    try:
        there = -1
        while there < wanted:
            before, there = there, int(ray.cluster_resources().get("GPU", 0))
            if there != before:
                print(f"{there} of {wanted} GPUs are there", file=sys.stderr, flush=True)
            if there < wanted:
                time.sleep(POLL_S)
        return subprocess.run(command).returncode
    finally:
        request_resources(bundles=[])
        ray.shutdown()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
