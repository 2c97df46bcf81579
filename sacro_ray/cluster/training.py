"""Ray Train around the plain training loop: workers, restarts, reports."""

import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from typing import Any

import ray
import ray.train
import torch
from ray.train import ControllerError, FailureConfig, RunConfig, ScalingConfig, UserCallback
from ray.train.torch import TorchTrainer

from sacro_ray.cluster.gauges import shown
from sacro_ray.cluster.sizing import Node, cluster_nodes, machines, own_cpus, places
from sacro_ray.cluster.storage import ray_storage
from sacro_ray.config import Experiment, build_experiment
from sacro_ray.dataset.batches import batch_sizes
from sacro_ray.dataset.manifest import read_manifest
from sacro_ray.disk import for_the_user
from sacro_ray.errors import UserError
from sacro_ray.learning.loop import DivergedError, TrainingRun
from sacro_ray.learning.place import Place
from sacro_ray.learning.predictions import write_validation_predictions
from sacro_ray.learning.run_folder import RunFolder

CPUS_BESIDE_GPU = 8
"""Of a worker that has a GPU, at most: they read the batches."""


def scaling_config(experiment: Experiment) -> ScalingConfig:
    """Workers and their share of the cluster: a GPU each where the cluster has any, or else all CPUs divided.

    Raises:
        UserError: More workers are asked for than the machines have room for.
    """
    nodes = machines(cluster_nodes())
    gpus, cpus = (int(sum(node.get(kind, 0) for node in nodes)) for kind in ("GPU", "CPU"))
    room = sum(places(node, 1, int(gpus > 0)) for node in nodes)  # a machine may have more GPUs than CPUs
    asked = experiment.training.workers
    fewest, most = asked if isinstance(asked, list) else [(room if gpus else 1) if asked == "all" else asked] * 2
    if fewest > room:
        one = "a GPU and a CPU on the same machine" if gpus else "a CPU"
        raise UserError(
            f"training.workers = {fewest}, but this Ray has {gpus} GPUs and {cpus} CPUs, and each worker needs {one}; "
            f'give at most {room}, or "all"'
        )
    if experiment.training.synchronised_batch_norm and most > 1 and not gpus:
        raise UserError(
            "training.synchronised_batch_norm needs GPUs: PyTorch has it for these alone; leave it out, or set training.workers = 1"
        )
    share: dict[str, float] = {"CPU": cpu_share(nodes, most)}
    workers = fewest if fewest == most else (fewest, most)
    return ScalingConfig(num_workers=workers, use_gpu=gpus > 0, resources_per_worker=share | ({"GPU": 1} if gpus else {}))


def cpu_share(nodes: Sequence[Node], workers: int) -> int:
    """The most CPUs that each of some workers can have at the same time, all of its on one node and beside a GPU where there are any.

    At least 1; with GPUs at most `CPUS_BESIDE_GPU`.
    """
    gpu = int(any(node.get("GPU") for node in nodes))
    largest = int(max(node.get("CPU", 0) for node in nodes))
    shares = range(1, (min(largest, CPUS_BESIDE_GPU) if gpu else largest) + 1)
    return max((share for share in shares if sum(places(node, share, gpu) for node in nodes) >= workers), default=1)


def check_batches(experiment: Experiment, scaling: ScalingConfig) -> None:
    """See that each worker has something of each batch.

    Raises:
        UserError: A stage has fewer radiographs to a batch than there are workers.
    """
    workers = scaling.num_workers[1] if isinstance(scaling.num_workers, tuple) else scaling.num_workers
    shards = experiment.prepare.shards
    count = sum(read_manifest(shards, cohort).splits["train"].radiographs for cohort in experiment.cohorts_of("development"))
    for stage in experiment.training.stages:
        batch_sizes(count, stage.batch_size, workers)


class _Trainer(TorchTrainer):  # type: ignore[misc]
    """Ray's, without its own answer to Ctrl-C: it waits for the epoch to end, and the process then ends with status 1."""

    def _register_sigint_handler(self, controller: Any) -> None:
        """Nothing: Ctrl-C is the command's."""


def run_trainer(
    experiment: Experiment, folder: RunFolder, scaling: ScalingConfig,
    worker: Callable[[dict[str, Any]], None], callbacks: Sequence[UserCallback] = (),
) -> None:  # fmt: skip
    """Train to the end on these workers; Ray Train starts others where some are lost.

    Raises:
        UserError: A worker found something that is the user's to fix, or cannot write to its disk.
        DivergedError: The loss is no longer finite.
    """
    trainer = _Trainer(
        worker,
        train_loop_config={"experiment": experiment.as_dict(), "folder": folder.location},
        scaling_config=scaling,
        run_config=RunConfig(
            # Each start is a new run to Ray; what a restart needs is in our own run folder, and only there.
            name=f"{experiment.name}-{time.time_ns()}",
            **ray_storage(folder.location),
            callbacks=[EndAtOnce(), *callbacks],
            failure_config=FailureConfig(max_failures=experiment.training.max_failures),
        ),
    )
    try:
        trainer.fit()
    except ControllerError as error:
        if isinstance(error.controller_failure, UserError | DivergedError):
            raise error.controller_failure from None
        raise


class EndAtOnce(UserCallback):  # type: ignore[misc]
    """Ends a training over an error that would come again, whichever ranks have it: the others may wait for them in a collective.

    Ray Train calls it in its controller, before it ends the workers, and would otherwise start them again.
    """

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """Raise such an error, which Ray Train then raises to its caller."""
        for error in worker_exceptions.values():
            if lasting := error if isinstance(error, DivergedError) else for_the_user(error):
                raise lasting


def train_worker(config: dict[str, Any]) -> None:
    """One rank of a training run, as Ray Train calls it; `report` in the configuration replaces the report of an epoch.

    Raises:
        UserError: What was given is wrong, as seen from this rank's machine.
        DivergedError: The loss is no longer finite.
    """
    context = ray.train.get_context()
    place = Place(ray.train.torch.get_device(), context.get_world_rank(), context.get_world_size())
    if place.device.type == "cpu":
        torch.set_num_threads(own_cpus())
    try:
        with closing(RunFolder.at(config["folder"])) as folder:
            check_shared(folder)
            with nullcontext() if "report" in config else _held(folder, place):
                run = TrainingRun(build_experiment(config["experiment"]), folder, place)
                report = shown(run.experiment.name, place.first, config.get("report", ray.train.report))
                run.fit(on_epoch=sent_before(report, folder, place))
                if "report" not in config:
                    _predict(run.experiment, folder, place)
    except UserError as error:
        where = f" (rank {place.rank} of {place.ranks}, on {socket.gethostname()})" if place.ranks > 1 else ""
        raise type(error)(f"{error}{where}") from None


def check_shared(folder: RunFolder) -> None:
    """Refuse to train where this rank does not see the run folder, which the command has made: states and weights are read from it."""
    if not (folder.path / "config.toml").is_file():
        raise UserError(
            f"the run folder {folder.location} is not on this machine; give --runs a folder that all machines of the cluster share, or an "
            "address of a bucket"
        )


@contextmanager
def _held(folder: RunFolder, place: Place) -> Iterator[None]:
    """The run folder for the ranks of this run alone; none looks into it before the first has it."""
    with folder.held() if place.first else nullcontext():
        place.from_first(None)
        yield


def _predict(experiment: Experiment, folder: RunFolder, place: Place) -> None:
    """Write the validation predictions, which make the run complete."""
    if folder.in_bucket:
        place.from_first(None)  # the others fetch the best weights when the first rank has sent them
    write_validation_predictions(experiment, folder, place)
    if place.first:
        folder.send("predictions/validation.csv")


def sent_before(report: Callable[[Any], None], folder: RunFolder, place: Place) -> Callable[[Any], None]:
    """`report`, before which what was kept of an epoch is in the bucket, where the run lies in one."""

    def tell(row: Any) -> None:
        if place.first:
            folder.send()
        report(row)

    return tell
