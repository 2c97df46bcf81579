"""Prepare cohorts on Ray: a shard a task, a few in flight, nothing done twice, and no file that can stop the rest."""

import logging
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import OutOfMemoryError

from sacro_ray.cluster.losses import MACHINE_LOST, PROCESS_DIED, Losses
from sacro_ray.cluster.runtime import answer, ray_session
from sacro_ray.cluster.waiting import wait_for_room
from sacro_ray.config import Experiment, Prepare
from sacro_ray.dataset.check import refuse_too_many
from sacro_ray.dataset.completion import (
    INDEX,
    NEAR,
    complete_cohort,
    read_index,
)
from sacro_ray.dataset.contact_sheet import RADIOGRAPHS, contact_sheet
from sacro_ray.dataset.files import read_file
from sacro_ray.dataset.half_finished import end_folder, start_folder
from sacro_ray.dataset.leaks import refuse_pixels_in_development_and_test
from sacro_ray.dataset.manifest import NAME as MANIFEST
from sacro_ray.dataset.parts import Part, finished_part, note_name, write_shard
from sacro_ray.dataset.plan import SPLITS, CohortPlan, PlannedRadiograph, PlannedShard
from sacro_ray.dataset.progress import Progress
from sacro_ray.dataset.working_folder import WorkingFolder
from sacro_ray.disk import write_atomically
from sacro_ray.errors import UserError
from sacro_ray.imaging.decode import ExcludedRadiograph, read_radiograph
from sacro_ray.locations import as_given, below

log = logging.getLogger("sacro_ray")

# A decoder that has not come back after this long never will; its process is ended, as after a crash.
SECONDS_A_RADIOGRAPH = 120
TAKES_LESS = "give Ray fewer CPUs, on each of which a process decodes: ray start --head --num-cpus N, and --address auto here"
# How often a shard whose process dies is tried: a process may be ended from outside, but not for ever.
SHARD_TRIES = 3


def write_plans(
    plans: Mapping[str, CohortPlan],
    todo: Mapping[str, CohortPlan],
    working: WorkingFolder,
    experiment: Experiment,
    address: str | None,
) -> None:
    """Write what is to do of all the plans. In a bucket, tasks send their shards; the small files are written here, and sent."""
    root, settings = working.path, experiment.prepare
    working.bring(*(f"{name}/{file}" for name in plans if name not in todo for file in (INDEX, NEAR)))
    if todo:
        with ray_session(address, TAKES_LESS):
            parts = {name: _write_parts(plan, below(working.location, name), settings) for name, plan in todo.items()}
            seen = {n: [w for p in parts[n] for w in p.written] if n in parts else read_index(root / n) for n in plans}
            refuse_pixels_in_development_and_test(
                {name: seen[name] for name in experiment.cohorts_of("development")},
                {name: seen[name] for name in experiment.cohorts_of("external_test")},
            )
            for name, plan in todo.items():
                source = below(working.location, name)
                _draw_contact_sheets(plan, parts[name], source, root / name, settings)
                complete_cohort(plan, root / name, parts[name], settings, partial(_bring_shard, working, name))
                working.send(f"{name}/{MANIFEST}")
                end_folder(as_given(source))


def _bring_shard(working: WorkingFolder, cohort: str, file: str) -> None:
    working.bring(f"{cohort}/{file}")


def _write_parts(plan: CohortPlan, folder: str, settings: Prepare) -> list[Part]:
    """Write the shards of a cohort that are missing; the parts of all, in order."""
    start_folder(as_given(folder), plan.settings, plan.digest, plan.files)
    excluded = plan.left_out
    parts: dict[str, Part] = {}
    wait_for_room(1)
    progress = Progress(plan.cohort, len(plan.radiographs))
    for shard, part in _run(plan.shards, folder, settings):
        parts[shard.file] = part
        excluded |= part.excluded
        progress.advance(len(shard.radiographs))
        refuse_too_many(plan, excluded, settings)
    progress.close()
    return [parts[shard.file] for shard in plan.shards]


def _run(shards: Sequence[PlannedShard], folder: str, settings: Prepare) -> Iterator[tuple[PlannedShard, Part]]:
    """Finished shards as they come, two tasks a processor in flight."""
    limit = max(2, 2 * int(ray.cluster_resources().get("CPU", 1)))
    pending: dict[Any, PlannedShard] = {}
    poison: dict[str, Sequence[str]] = {}
    deaths: Counter[str] = Counter()
    losses = Losses()
    waiting = list(reversed(shards))
    while pending or waiting:
        while waiting and len(pending) < limit:
            shard = waiting.pop()
            pending[_shard_task.remote(shard, folder, settings, poison.get(shard.file, ()))] = shard
        (done, *_), _ = ray.wait(list(pending), num_returns=1)
        shard = pending.pop(done)
        try:
            text = answer(done)
        except MACHINE_LOST:
            losses.note(f"preparing {shard.cohort}/{shard.file}")
        except PROCESS_DIED as error:
            deaths[shard.file] += 1
            if deaths[shard.file] == SHARD_TRIES:
                raise _dies_whatever(shard, error) from None
            poison[shard.file] = _find_poison(shard.radiographs, settings, losses)
        else:
            yield shard, Part.model_validate_json(text)
            continue
        waiting.append(shard)


def _dies_whatever(shard: PlannedShard, error: Exception) -> UserError:
    why = "memory is short" if isinstance(error, OutOfMemoryError) else "the system ended it, for want of memory perhaps"
    return UserError(
        f"the process that prepares {shard.cohort}/{shard.file} died {SHARD_TRIES} times, though none of its radiographs ends it alone: "
        f"{why}. Give Ray fewer CPUs, so that fewer radiographs are decoded at a time, and run the same command again"
    )


def _find_poison(radiographs: Sequence[PlannedRadiograph], settings: Prepare, losses: Losses) -> list[str]:
    """Which radiographs end the process that decodes them, each tried alone, and twice if need be."""
    log.warning("a process that decoded %d radiographs died; each is now tried alone", len(radiographs))
    probes = [(r, partial(_probe_task.remote, r, settings)) for r in radiographs]
    begun = [(radiograph, start, start()) for radiograph, start in probes]
    return [radiograph.radiograph_id for radiograph, start, first in begun if _ends_its_process(start, first, losses)]


def _ends_its_process(start: Callable[[], Any], first: Any, losses: Losses) -> bool:
    for reference in (first, None):
        try:
            losses.outlived("trying radiographs alone", start, reference)
        except PROCESS_DIED:
            continue
        return False
    return True


@ray.remote(num_cpus=1, max_retries=0)  # type: ignore[untyped-decorator]
def _shard_task(shard: PlannedShard, folder: str, settings: Prepare, poison: Sequence[str]) -> str:
    note = note_name(shard)
    with WorkingFolder(folder) as here:
        here.bring(note)
        if (here.path / note).exists():
            here.bring(shard.file)
        try:
            part = finished_part(shard, here.path) or write_shard(shard, here.path, settings, poison, _watch)
        finally:
            _watch(0)
        here.send(note)
    return part.model_dump_json()


@ray.remote(num_cpus=1, max_retries=0)  # type: ignore[untyped-decorator]
def _probe_task(radiograph: PlannedRadiograph, settings: Prepare) -> None:
    _watch()
    try:
        read_radiograph(read_file(radiograph.path), settings, radiograph.box)
    except (ExcludedRadiograph, OSError):
        pass
    finally:
        _watch(0)


@ray.remote(num_cpus=1)  # type: ignore[untyped-decorator]
def _contact_sheet_task(
    title: str, radiographs: Sequence[PlannedRadiograph], folder: str, shards: Sequence[str], settings: Prepare
) -> bytes:
    with WorkingFolder(folder) as here:
        here.bring(*shards)
        return contact_sheet(title, radiographs, [here.path / shard for shard in shards], settings)


def _watch(seconds: int = SECONDS_A_RADIOGRAPH) -> None:
    """Let the system end this process after so many seconds, even within a decoder that never returns; 0 takes it back."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(seconds)


def _draw_contact_sheets(plan: CohortPlan, parts: list[Part], source: str, folder: Path, settings: Prepare) -> None:
    planned = {radiograph.radiograph_id: radiograph for radiograph in plan.radiographs}
    tasks = {}
    for split in SPLITS[plan.role]:
        first = [(entry, part.file) for part in parts for entry in part.written if entry.split == split][:RADIOGRAPHS]
        shards = sorted({file for _, file in first})
        title = f"{plan.cohort}, {split}: left the file's full range of grey values, right as stored ({settings.greyscale})"
        start = partial(
            _contact_sheet_task.remote, title, [planned[e.radiograph_id] for e, _ in first], source, shards, settings
        )
        tasks[split] = (start, start())
    losses = Losses()
    for split, task in tasks.items():
        write_atomically(folder / f"contact_{split}.png", losses.outlived("drawing contact sheets", *task))
