"""Ray's memory monitor ends a process: numbers, the setting that takes less, and nothing else of Ray's message."""

import pytest
from ray.exceptions import OutOfMemoryError, RayTaskError
from ray.train import WorkerGroupError

from sacro_ray.cluster.memory import memory_explained, memory_words
from sacro_ray.cluster.runtime import ray_session
from sacro_ray.errors import UserError

SAID = (
    "1 worker(s) were killed due to the node running low on memory. Memory on the node (IP: 10.0.0.7, ID: a869) was 22.51GB used / "
    "23.54GB limit (0.956230)\nOOM kill reason: Memory usage 24170584576B exceeded threshold of 24012688588B (95.0% of 25276514304B)\n"
    "Ray killed 1 worker(s) based on the killing policy\nConsidered workers: [\nSelected to kill: (Actor(3e92): job ID=01000000, "
    "task name=A.__init__, required resources={CPU: 1}, pid=31473, actual memory used=7.35GB, worker ID=06ee)\n]\n"
    "Top 10 memory users: PID\tMEM(GB)\tCOMMAND\n28328\t0.82\tpython -m other --patient Somebody\nRefer to the documentation ..."
)
WORDS = "Ray ended a process because the memory of its machine ran out: 22.5 of 23.5 GiB were taken, 7.3 GiB by what it ended"


class FailureError(Exception):
    """As Ray Train wraps the death of a worker."""

    health_check_failure = OutOfMemoryError(SAID)


@pytest.mark.parametrize(
    "error",
    [
        OutOfMemoryError(SAID),
        WorkerGroupError(SAID[:100] + "...", {1: FailureError("A worker health check failed.")}),
        RayTaskError("read", SAID, OutOfMemoryError(SAID)),
    ],
)
def test_numbers_alone_and_what_takes_less(error):
    with pytest.raises(UserError) as caught, memory_explained("lower scoring.actors"):
        raise error
    assert str(caught.value) == f"{WORDS}; lower scoring.actors, or end what else runs there"


def test_other_errors_stay_what_they_are():
    assert memory_words("ValueError: 3 GB") is None
    with pytest.raises(WorkerGroupError), memory_explained("lower scoring.actors"):
        raise WorkerGroupError("rank 0", {0: ValueError("x")})


@pytest.mark.ray
def test_every_session_explains(local_ray):
    with pytest.raises(UserError, match=r"ran out: .*; lower it"), ray_session(takes_less="lower it"):
        raise OutOfMemoryError(SAID)
