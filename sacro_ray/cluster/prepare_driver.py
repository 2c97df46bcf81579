"""A preparation as the command sees it: what is planned, what is complete already, and what is left to do.

Ray is imported when the tables have been read and all has passed that they can tell.
"""

import logging
from contextlib import nullcontext
from functools import partial
from pathlib import Path

from sacro_ray.config import Experiment
from sacro_ray.dataset.check import plan_experiment
from sacro_ray.dataset.completion import log_flow, unchanged, write_near_duplicates
from sacro_ray.dataset.manifest import read_manifest
from sacro_ray.dataset.replacement import reopen
from sacro_ray.dataset.working_folder import WorkingFolder
from sacro_ray.locations import as_given, below

log = logging.getLogger("sacro_ray")


def prepare_cohorts(experiment: Experiment, address: str | None = None, replace: bool = False) -> str | Path:
    """Bring all cohorts of an experiment into shards.

    Cohorts that are complete with the same inputs and settings are verified and left alone; half-finished ones go on.

    Args:
        experiment: Its cohorts, and [prepare].
        address: Of a Ray cluster; see `ray_session`.
        replace: Write again the shards that have changed of cohorts that are complete, but from other inputs or settings.

    Returns:
        The folder of all shards, as a path or, where they are written into a bucket, as an address.

    Raises:
        UserError: Something in the tables is wrong, too many radiographs cannot be used, a picture is in two places, or a cohort
            was prepared before from other inputs or with other settings and is not to be replaced.
    """
    location = as_given(experiment.prepare.shards)
    plans = plan_experiment(experiment)
    folders = {name: as_given(below(location, name)) for name in plans}
    changed: dict[str, str] = {}
    todo = {
        name: plan
        for name, plan in plans.items()
        if not unchanged(plan, folders[name], partial(changed.__setitem__, name) if replace else None)
    }
    with WorkingFolder(location) as working, working.alone("prepare", "prepare.shards") if todo else nullcontext():
        for name, problem in changed.items():
            reopen(plans[name], folders[name], experiment.prepare, problem)
        # Another `prepare` may have completed some between the look and the lock.
        left = {name: plan for name, plan in todo.items() if not unchanged(plan, folders[name])}
        from sacro_ray.cluster.preparation import write_plans

        write_plans(plans, left, working, experiment, address)
        write_near_duplicates(working.path, list(plans), anew=bool(changed))
        working.send()
    for name in plans:
        if name not in todo:
            log.info("%s: complete and verified, left as it is", name)
        log_flow(read_manifest(location, name))
    return location
