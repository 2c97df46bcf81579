"""The page of a run with random weights."""

import socket
from collections.abc import Iterator

import pytest

from sacro_ray.cluster.scoring_run import ScoringRun
from sacro_ray.cluster.serving import served
from sacro_ray.learning.run_folder import RunFolder


@pytest.fixture(scope="package")
def served_run(local_ray, random_run: RunFolder) -> Iterator[str]:
    """The address of the page of `random_run`, which takes uploads of at most 1 MiB."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with served(ScoringRun.at(random_run.path), "127.0.0.1", port, None, 2**20) as url:
        yield url
