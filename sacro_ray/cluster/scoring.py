"""The part of scoring that is Ray's: parts of the input through the workers, and the statistic of what is familiar."""

import logging
from collections.abc import Sequence

import ray
import torch

from sacro_ray.cluster.gauges import count_scored
from sacro_ray.cluster.losses import Losses, machine_lost
from sacro_ray.cluster.runtime import answer
from sacro_ray.cluster.scoring_inputs import Item
from sacro_ray.cluster.scoring_results import ScoresFolder
from sacro_ray.cluster.scoring_run import ScoringRun
from sacro_ray.cluster.scoring_stream import pool_for, stream_parts
from sacro_ray.cluster.scoring_workers import Outputs
from sacro_ray.cluster.sizing import cluster_nodes, cpus_of_this_node, largest_share
from sacro_ray.cluster.waiting import wait_for_room
from sacro_ray.dataset.progress import Progress
from sacro_ray.dataset.working_folder import WorkingFolder
from sacro_ray.errors import UserError
from sacro_ray.learning.familiarity import load_familiarity, write_familiarity
from sacro_ray.learning.place import Place
from sacro_ray.learning.run_folder import RunFolder

log = logging.getLogger("sacro_ray")


def ensure_familiarity(folder: RunFolder) -> None:
    """See that the statistic of training features is there; without the prepared training cohorts scoring goes on without it."""
    if load_familiarity(folder) is not None:
        return
    log.info("looking at training and validation radiographs once, to know what is familiar")
    _, gpus = largest_share(cluster_nodes(), 1)
    wait_for_room(1, gpus)
    task = ray.remote(num_cpus=1, num_gpus=gpus)(_write_familiarity)
    try:
        answer(task.remote(folder.location))
    except UserError as error:
        log.warning("no familiarity in these scores: %s", error)


def _write_familiarity(run: str) -> None:
    folder = RunFolder.at(run)
    device = torch.device("cuda" if ray.get_gpu_ids() else "cpu")
    if device.type == "cpu":
        torch.set_num_threads(cpus_of_this_node())  # nothing else runs before it has ended
    write_familiarity(folder, Place(device))
    folder.send()


def score_parts(
    scoring: ScoringRun,
    outputs: Outputs,
    files: Sequence[str],
    items: Sequence[Item],
    results: ScoresFolder,
    missing: Sequence[int],
    kept: WorkingFolder,
) -> None:
    """Score the missing parts and keep each as soon as it is there."""
    run, experiment, size_px = scoring.folder.location, scoring.experiment, int(scoring.description["size_px"])
    left = sum(results.length(number, len(items)) for number in missing)
    if left < len(items):
        log.info("going on: %d of %d radiographs are scored", len(items) - left, len(items))
    progress = Progress("scored", left)
    size, losses = results.part_size, Losses()
    while missing:
        pool = pool_for(experiment, cluster_nodes(), len(missing))
        stream = stream_parts(run, experiment, size_px, outputs, items, missing, size, pool, results.known)
        try:
            for number, rows in stream:
                results.write_part(number, rows, files)
                kept.send(results.part(number).relative_to(kept.path).as_posix())
                count_scored(experiment.name, rows["status"].to_pylist())
                progress.advance(len(rows))
        except Exception as error:
            # Ray Data starts its workers anew by itself; what it cannot get back is read again.
            if not machine_lost(error):
                raise
            losses.note("scoring", error)
        missing = results.missing(len(items), files)
    progress.close()
