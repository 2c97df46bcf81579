"""Prepare cohorts on Ray: a shard a task, at most a few in flight, and nothing done twice."""

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray

from sacro_ray.cluster.runtime import ray_session
from sacro_ray.config import Experiment, Prepare
from sacro_ray.dataset.completion import complete_cohort, read_index, unchanged
from sacro_ray.dataset.leaks import refuse_pixels_in_development_and_test
from sacro_ray.dataset.manifest import NAME
from sacro_ray.dataset.parts import WORKING, Part, finished_part, start_folder, write_shard
from sacro_ray.dataset.plan import CohortPlan, PlannedShard, plan_cohort
from sacro_ray.dataset.progress import Progress
from sacro_ray.errors import UserError, listed

log = logging.getLogger("sacro_ray")


def prepare_cohorts(experiment: Experiment, address: str | None = None) -> Path:
    """Bring all cohorts of an experiment into shards.

    Cohorts that are complete with the same inputs and settings are verified and left alone; half-finished ones go on.

    Returns:
        The folder of all shards.

    Raises:
        UserError: Something in the tables is wrong, too many radiographs cannot be used, a picture is in two places, or a cohort
            was prepared before from other inputs or with other settings.
    """
    root = Path(experiment.prepare.shards)
    plans = {name: plan_cohort(name, experiment) for name in experiment.cohorts}
    todo = {name: plan for name, plan in plans.items() if not unchanged(plan, root / name)}
    for name in plans.keys() - todo.keys():
        log.info("%s: complete and verified, left as it is", name)
    if todo:
        with ray_session(address):
            parts = {name: _write_parts(plan, root / name, experiment.prepare) for name, plan in todo.items()}
    else:
        parts = {}
    seen: dict[str, Any] = {
        name: [w for part in parts[name] for w in part.written] if name in parts else read_index(root / name) for name in plans
    }
    refuse_pixels_in_development_and_test(
        {name: seen[name] for name in experiment.cohorts_of("development")},
        {name: seen[name] for name in experiment.cohorts_of("external_test")},
    )
    for name, plan in todo.items():
        complete_cohort(plan, root / name, parts[name], experiment.prepare)
    return root


def _write_parts(plan: CohortPlan, folder: Path, settings: Prepare) -> list[Part]:
    """Write the shards of a cohort that are missing; the parts of all, in order."""
    if not start_folder(folder, plan.settings, plan.digest):
        _clear(folder)
        start_folder(folder, plan.settings, plan.digest)
    parts: dict[str, Part] = {}
    progress = Progress(plan.cohort, plan.received)
    progress.advance(len(plan.excluded))
    excluded = {name: reason for name, reason in plan.excluded.items() if reason != "discordant"}
    for shard, part in _run(plan.shards, folder, settings):
        parts[shard.file] = part
        excluded |= part.excluded
        progress.advance(len(shard.radiographs))
        if len(excluded) > settings.max_excluded_fraction * plan.received:
            _give_up(plan, excluded, settings)
    progress.close()
    return [parts[shard.file] for shard in plan.shards]


def _run(shards: tuple[PlannedShard, ...], folder: Path, settings: Prepare) -> Iterator[tuple[PlannedShard, Part]]:
    """Finished shards as they come, two tasks a processor in flight."""
    limit = max(2, 2 * int(ray.cluster_resources().get("CPU", 1)))
    settings_ref = ray.put(settings)
    pending: dict[Any, PlannedShard] = {}
    waiting = iter(shards)
    exhausted = False
    while pending or not exhausted:
        while len(pending) < limit and not exhausted:
            shard = next(waiting, None)
            if shard is None:
                exhausted = True
            else:
                pending[_shard_task.remote(shard, str(folder.resolve()), settings_ref)] = shard
        if not pending:
            break
        (done, *_), _ = ray.wait(list(pending), num_returns=1)
        shard = pending.pop(done)
        yield shard, Part.model_validate_json(ray.get(done))


@ray.remote(num_cpus=1)
def _shard_task(shard: PlannedShard, folder: str, settings: Prepare) -> str:
    part = finished_part(shard, Path(folder)) or write_shard(shard, Path(folder), settings)
    return part.model_dump_json()


def _give_up(plan: CohortPlan, excluded: dict[str, str], settings: Prepare) -> None:
    share = len(excluded) / plan.received
    raise UserError(
        f"cohort {plan.cohort}: {len(excluded)} of {plan.received} radiographs cannot be used ({share:.1%}, at most "
        f"prepare.max_excluded_fraction = {settings.max_excluded_fraction:.1%}): "
        f"{listed(f'{name} ({reason})' for name, reason in excluded.items())}. Mend the files or raise the limit"
    )


def _clear(folder: Path) -> None:
    """Remove what an unfinished run with other inputs or settings left; refuse to touch anything else."""
    foreign = [p.name for p in folder.iterdir() if p.name not in {WORKING, "train", "validation", "test"}]
    if foreign or (folder / NAME).exists():
        raise UserError(
            f"{folder} holds files that prepare did not write ({listed(foreign)}); move them, or set prepare.shards elsewhere"
        )
    for path in folder.iterdir():
        shutil.rmtree(path)
