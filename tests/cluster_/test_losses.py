"""Machines that go away: what is done again, what is not, and what ends a command; Ray's part is played. test_lost_node.py kills nodes."""

import asyncio
import logging
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    OwnerDiedError,
    RayTaskError,
    WorkerCrashedError,
)

from sacro_ray.cluster import losses, preparation, scoring, serving
from sacro_ray.cluster.losses import MOST_LOSSES, Losses, machine_lost
from sacro_ray.cluster.scoring_workers import LAST_ATTEMPT, Attempts
from sacro_ray.dataset.parts import Part
from sacro_ray.dataset.plan import PlannedShard, plan_cohort
from sacro_ray.errors import UserError
from sacro_ray.serving.answers import Refused

NODE_DIED = NodeDiedError("the node is gone")
LOST = [NODE_DIED, ActorDiedError(), ActorUnavailableError("no answer", None), ObjectLostError("00" * 28, None, ""),
        OwnerDiedError("00" * 28, None, "")]  # fmt: skip


def of_a_task(cause: Exception) -> RayTaskError:
    return RayTaskError("f", "a worker's traceback", cause)


@pytest.mark.parametrize("error", LOST, ids=lambda error: type(error).__name__)
def test_a_machine_that_went_away_is_seen_behind_what_wraps_it(error):
    wrapped = RuntimeError("the stream ended")
    wrapped.__cause__ = of_a_task(error)
    for one in (error, of_a_task(error), of_a_task(error).as_instanceof_cause(), wrapped):
        assert machine_lost(one)


@pytest.mark.parametrize(
    "error",
    [WorkerCrashedError(), OutOfMemoryError("short"), of_a_task(ValueError("no")), UserError("no"),
     ActorDiedError(of_a_task(ValueError()))],
    ids=["process", "memory", "task", "user", "actor that could not begin"],
)  # fmt: skip
def test_all_else_is_no_lost_machine(error):
    assert not machine_lost(error)


@pytest.fixture
def ray_says(monkeypatch):
    """Answers of Ray, by reference: an exception is raised, anything else is the result."""
    said: dict = {}

    def answer(reference):
        result = said[reference]
        if isinstance(result, Exception):
            raise result
        return result

    monkeypatch.setattr(losses, "answer", answer)
    monkeypatch.setattr(preparation, "answer", answer)
    return said


def test_what_a_machine_took_with_it_is_started_again_and_said_once(ray_says, caplog):
    ray_says |= {"first": NODE_DIED, "second": LOST[1], "third": "the result"}
    more = iter(["second", "third"])
    assert Losses().outlived("evaluating", lambda: next(more), "first") == "the result"
    assert [r.message for r in caplog.records] == [
        "a machine of the Ray cluster went away while evaluating; what it had to do is done elsewhere"
    ]


def test_other_errors_are_final(ray_says):
    ray_says |= {"a": WorkerCrashedError(), "b": UserError("wrong")}
    for reference, kind in (("a", WorkerCrashedError), ("b", UserError)):
        with pytest.raises(kind):
            Losses().outlived("evaluating", lambda: pytest.fail("started again"), reference)


def test_machines_that_go_on_going_away_end_the_command_in_words(ray_says):
    ray_says["x"] = NODE_DIED
    begun: list[str] = []
    with pytest.raises(
        UserError, match=rf"went away {MOST_LOSSES} times while evaluating; what is complete is kept.*same command again"
    ):
        Losses().outlived("evaluating", lambda: begun.append("x") or "x")
    assert len(begun) == MOST_LOSSES


def test_an_actor_s_process_that_was_ended_is_no_machine_that_went_away(ray_says, caplog):
    ended = ActorDiedError()
    ended.error_msg += "\nThe actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR"
    ray_says["x"] = of_a_task(ended)
    with pytest.raises(
        UserError, match=rf"the system ended the process {MOST_LOSSES} times while evaluating, for want of memory"
    ):
        Losses().outlived("evaluating", lambda: "x")
    assert [r.message for r in caplog.records] == [
        "the system ended a process while evaluating, for want of memory perhaps; another begins again"
    ]


@pytest.fixture
def shards(experiment) -> list[PlannedShard]:
    return list(plan_cohort("ours", experiment).shards)


@pytest.fixture
def prepare(experiment, ray_says, shards, monkeypatch):
    """Run the tasks of a preparation: each shard goes through its list of fates, then succeeds. Returns the parts and what was started."""

    def run(fates: dict[str, list[Exception]], deadly: tuple[str, ...] = ()) -> tuple[list[str], list[tuple], list[str]]:
        started: list[tuple] = []
        probed: list[str] = []

        def shard_task(shard, folder, settings, poison):
            started.append((shard.file, tuple(poison)))
            reference = f"task {len(started)}"
            part = Part(file=shard.file, sha256=None, bytes=0, written=[], excluded={}, sources="", plan="")
            left = fates.get(shard.file)
            ray_says[reference] = left.pop(0) if left else part.model_dump_json()
            return reference

        def probe_task(radiograph, settings):
            probed.append(radiograph.radiograph_id)
            reference = f"probe {len(probed)}"
            ray_says[reference] = WorkerCrashedError() if radiograph.radiograph_id in deadly else None
            return reference

        monkeypatch.setattr(preparation, "_shard_task", SimpleNamespace(remote=shard_task))
        monkeypatch.setattr(preparation, "_probe_task", SimpleNamespace(remote=probe_task))
        played = SimpleNamespace(cluster_resources=lambda: {"CPU": 2}, wait=lambda refs, num_returns: (refs[:1], refs[1:]))
        monkeypatch.setattr(preparation, "ray", played)
        done = [shard.file for shard, _ in preparation._run(shards, "folder", experiment.prepare)]
        return done, started, probed

    return run


def test_a_lost_machine_is_no_file_that_ends_its_process(prepare, shards, caplog):
    names = sorted(shard.file for shard in shards)
    done, started, probed = prepare({names[0]: [NODE_DIED, LOST[3], NODE_DIED], names[2]: [NODE_DIED]})
    assert sorted(done) == names
    assert len(started) == len(names) + 4
    assert probed == []
    assert "tried alone" not in caplog.text


def test_a_file_that_ends_its_process_is_found_and_stays_found_though_a_machine_is_lost(prepare, shards):
    shard = shards[0]
    deadly = shard.radiographs[3].radiograph_id
    done, started, probed = prepare({shard.file: [NODE_DIED, WorkerCrashedError(), NODE_DIED]}, (deadly,))
    assert len(done) == len(shards)
    assert [poison for file, poison in started if file == shard.file] == [(), (), (deadly,), (deadly,)]
    assert sorted(probed) == sorted([*(r.radiograph_id for r in shard.radiographs), deadly]), "one that dies is tried twice"


def test_shards_that_cannot_be_finished_end_the_command_in_words(prepare, shards):
    with pytest.raises(UserError, match=rf"went away {MOST_LOSSES} times while preparing ours/{shards[0].file}"):
        prepare({shards[0].file: [NODE_DIED] * 9})
    with pytest.raises(UserError, match=r"died 3 times, though none of its radiographs ends it alone: memory is short"):
        prepare({shards[0].file: [OutOfMemoryError("short")] * 9})


def test_an_attempt_that_went_with_its_machine_does_not_count():
    living = {"one", "two"}
    attempts = Attempts(lambda: living)
    assert [attempts.begin(7, "one"), attempts.begin(7, "one"), attempts.begin(8, "one"), attempts.begin(7, "two")] == [
        1,
        2,
        1,
        3,
    ]
    living.discard("one")
    assert [attempts.begin(7, "two"), attempts.begin(8, "two")] == [2, 1]
    for spot in range(2 * LAST_ATTEMPT):
        living.clear()
        living.add(f"spot {spot}")
        assert attempts.begin(9, f"spot {spot}") == 1


def test_scoring_goes_on_with_what_a_lost_stream_has_not_given(experiment, monkeypatch, caplog):
    complete: list[int] = []
    asked: list[list[int]] = []

    def stream(*arguments):
        missing = list(arguments[5])
        asked.append(missing)
        for number in missing[:2]:
            yield number, pa.table({"status": ["ok"]})
        if len(missing) > 2:
            raise of_a_task(NODE_DIED).as_instanceof_cause()

    monkeypatch.setattr(scoring, "stream_parts", stream)
    monkeypatch.setattr(scoring, "pool_for", lambda *_: None)
    monkeypatch.setattr(scoring, "count_scored", lambda *_: None)
    monkeypatch.setattr(scoring, "cluster_nodes", list)
    results = SimpleNamespace(
        part_size=1, known=None, length=lambda number, total: 1, part=lambda number: Path("/scores", str(number)),
        write_part=lambda number, rows, files: complete.append(number),
        missing=lambda total, files: [number for number in range(5) if number not in complete],
    )  # fmt: skip
    kept = SimpleNamespace(path=Path("/scores"), send=lambda name: None)
    run = SimpleNamespace(folder=SimpleNamespace(location=""), experiment=experiment, description={"size_px": 48})
    scoring.score_parts(run, None, [], [None] * 5, results, list(range(5)), kept)
    assert complete == [0, 1, 2, 3, 4]
    assert asked == [[0, 1, 2, 3, 4], [2, 3, 4], [4]]
    assert caplog.text.count("went away while scoring") == 1


@pytest.mark.parametrize(
    ("fates", "expected"),
    [
        ([NODE_DIED, LOST[3], NODE_DIED], None),
        ([WorkerCrashedError(), NODE_DIED], None),
        ([WorkerCrashedError(), NODE_DIED, OutOfMemoryError("short")], "decoder_crashed"),
        ([NODE_DIED] * 9, "not_ready"),
        ([of_a_task(ValueError())], "not_ready"),
    ],
)
def test_an_upload_is_decoded_elsewhere_when_its_machine_is_lost(fates, expected):
    fates = list(fates)

    class Task:
        @staticmethod
        async def remote(*given):
            if fates:
                raise fates.pop(0)
            return given

    reception = SimpleNamespace(turn=asyncio.Semaphore(1))
    decoded = serving.Reception._decoded(reception, Task, b"upload")
    if expected is None:
        assert asyncio.run(decoded) == (b"upload",)
    else:
        with pytest.raises(Refused) as refused:
            asyncio.run(decoded)
        assert refused.value.refusal.reason == expected


@pytest.fixture(autouse=True)
def _warnings(caplog):
    caplog.set_level(logging.WARNING, logger="sacro_ray")
