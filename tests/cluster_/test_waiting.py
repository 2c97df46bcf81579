"""What fits on a machine, what waits for one, and what is said of it."""

import pytest

from sacro_ray.cluster.sizing import largest_share, machines, places
from sacro_ray.cluster.waiting import PATIENCE_S, Waits
from sacro_ray.errors import UserError

SMALL = {"CPU": 4.0, "memory": 1e9}


@pytest.mark.parametrize(
    ("nodes", "share"),
    [
        ([SMALL, SMALL], (4, 0)),  # not 8, which no machine has
        ([{"CPU": 64.0}], (8, 0)),
        ([{"CPU": 64.0}, {"CPU": 4.0, "GPU": 1.0}], (4, 1)),
        ([{"CPU": 4.0}, {"GPU": 1.0}], (4, 0)),  # a GPU without a CPU beside it holds no actor
        ([{"CPU": 0.5}], (1, 0)),
        ([], (1, 0)),
    ],
)
def test_one_actor_asks_for_no_more_than_the_largest_machine_has(nodes, share):
    assert largest_share(nodes, 8) == share


@pytest.mark.parametrize(
    ("node", "cpus", "gpus", "count"),
    [
        (SMALL, 1, 0, 4),
        (SMALL, 0.1, 0, 40),
        ({"CPU": 8.0, "GPU": 2.0}, 1, 0.6, 2),
        ({"CPU": 8.0, "GPU": 2.0}, 1, 0.3, 6),
        ({"CPU": 8.0, "GPU": 4.0}, 1, 1.5, 2),
        ({"CPU": 1.0, "GPU": 4.0}, 1, 1, 1),
        ({"GPU": 4.0}, 1, 1, 0),
        ({}, 1, 0, 0),
    ],
)
def test_so_many_fit_on_a_machine(node, cpus, gpus, count):
    assert places(node, cpus, gpus) == count


def test_a_ray_without_machines_is_the_users_error():
    assert machines([{}, SMALL]) == [SMALL]
    with pytest.raises(UserError, match=r"no machine with a CPU .* \(1 nodes without\); .* deploy/with_gpus.py"):
        machines([{"memory": 1e9}])


def test_what_waits_for_a_minute_is_said_once_with_what_there_is():
    waits, pending = Waits(), {"a": ("8 CPU",), "b": ("8 CPU",), "c": ("1 CPU", "1 CPU")}
    assert waits.look(pending, [SMALL], 0) == []
    assert waits.look(pending | {"d": ("2 CPU",)}, [SMALL], PATIENCE_S - 1) == []
    train, evaluate = waits.look(pending | {"d": ("2 CPU",)}, [SMALL, SMALL, {"CPU": 2.0, "GPU": 1.0}], PATIENCE_S)
    assert "1 x (1 CPU + 1 CPU)" in train
    assert "2 x (8 CPU); this Ray has 3 machines (2 CPU, 1 GPU; 4 CPU)" in evaluate
    assert waits.look(pending, [SMALL], PATIENCE_S + 5) == []
    assert waits.look({}, [SMALL], PATIENCE_S + 10) == []
    # Another that asks for the same later waits for a minute of its own.
    assert waits.look({"e": ("8 CPU",)}, [SMALL], PATIENCE_S + 15) == []
    (again,) = waits.look({"e": ("8 CPU",)}, [], 2 * PATIENCE_S + 15)
    assert "this Ray has 0 machines (no machine)" in again
