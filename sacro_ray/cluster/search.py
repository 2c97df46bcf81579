"""A sweep as the command sees it: what is checked, when the folder becomes this sweep's, and what is left to do.

Ray, Optuna and PyTorch are imported when all has passed that can be told without them.
"""

import logging
from collections.abc import Callable
from pathlib import Path

from sacro_ray.cluster.sweep_folder import SweepFolder
from sacro_ray.config import Experiment
from sacro_ray.dataset.manifest import read_manifest
from sacro_ray.errors import UserError
from sacro_ray.learning.data import data_digests
from sacro_ray.learning.readiness import check_data_and_weights_exist, check_weights_load
from sacro_ray.locations import as_given, below

log = logging.getLogger("sacro_ray")
TAKES_LESS = "lower batch_size in search.stages, or raise search.cpus_per_trial so that fewer trials run at once"
LONGEST_NAME = 64 - len("-best")


class AllTrialsFailedError(RuntimeError):
    """No trial of a sweep got to an AUC."""


def search(
    experiment: Experiment, runs: str | Path, resume: bool, address: str | None = None,
    trial: Callable[..., None] | None = None, claimed: Callable[[], object] = lambda: None,
) -> str | Path:  # fmt: skip
    """Run a sweep, or with `resume` what is left of one; returns where best.toml lies, a path or an address.

    Args:
        experiment: What is searched, and how.
        runs: The folder, or its address, in which NAME-sweep/ lies.
        resume: Go on with the sweep that is there.
        address: Of a Ray cluster; see `ray_session`.
        trial: What a trial does, with the arguments of `run_trial`, the default; it must write the history and report it likewise.
        claimed: Called when there is a sweep to go on with.

    Raises:
        UserError: The space or the resources do not fit, the folder holds a sweep (without `resume`), holds none, or holds another
            (with it).
        AllTrialsFailedError: No trial ended with an AUC.
    """
    _check_name(experiment.name)
    folder = SweepFolder.at(below(runs, f"{experiment.name}-sweep"))
    began, digests = _checked(experiment, folder, resume)
    from sacro_ray.cluster.sweep_results import Results, best_of

    simulated = any(read_manifest(experiment.prepare.shards, name).simulated for name in experiment.cohorts_of("development"))
    results = Results(experiment, folder, simulated)
    if len(folder.records()) < experiment.search.trials:
        from sacro_ray.cluster.runtime import ray_session
        from sacro_ray.cluster.sizing import cluster_nodes
        from sacro_ray.cluster.sweep_resources import fit_trials
        from sacro_ray.cluster.sweep_run import run_trials

        with folder.alone(), ray_session(address, TAKES_LESS):
            resources = fit_trials(experiment.search, cluster_nodes())
            if not resume:
                folder.claim(experiment, digests)
            claimed()
            run_trials(experiment, began, folder, results, resources, trial)
    trials = folder.records()
    results.write(trials, last=True)
    best = best_of(trials)
    if best is None:
        raise AllTrialsFailedError(f"all {len(trials)} trials failed; the first error: {trials[0]['error']}")
    from sacro_ray.evaluation.remarks import auc_remarks

    for remark in auc_remarks("the best trial: ", {"estimate": best["best_auc"]}):
        log.warning("remark: %s", remark)
    return as_given(below(folder.location, "best.toml"))


def _checked(experiment: Experiment, folder: SweepFolder, resume: bool) -> tuple[Experiment, dict[str, str]]:
    """The experiment with which the sweep began or begins, and the digests of its data; the quick checks first."""
    if not resume:
        folder.check_free()
    check_data_and_weights_exist(experiment)
    digests = data_digests(experiment, experiment.cohorts_of("development"))
    began = folder.check_same(experiment, digests) if resume else experiment
    from sacro_ray.cluster.space import distributions

    distributions(experiment)
    check_weights_load(experiment.model)
    return began, digests


def _check_name(name: str) -> None:
    if len(name) > LONGEST_NAME:
        raise UserError(
            f"name = {name!r} has {len(name)} characters, and best.toml of a sweep adds -best to it; "
            f"give at most {LONGEST_NAME}, such as --set name={name[:LONGEST_NAME]}"
        )
