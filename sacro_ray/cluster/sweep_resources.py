"""How much of the cluster a trial takes, and how many trials fit at once: worked out before the first one starts.

A trial that asks for more than there is would wait for ever, so what does not fit is an error at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sacro_ray.cluster.sizing import Node, machines, places
from sacro_ray.config import Search
from sacro_ray.errors import UserError

HEAD = "node:__internal_head__"
"""A resource of 1 that every Ray head has. A trial's driver takes a thousandth of it and no CPU: drivers that held CPUs would starve the
workers they wait for, and without any resource Tune starts none."""


@dataclass(frozen=True)
class TrialResources:
    """What a trial takes.

    Attributes:
        own: Resources of the trial's own process.
        worker: Resources of each of its workers; empty where it trains in its own process.
        at_once: How many trials fit on the cluster.
    """

    own: dict[str, float]
    worker: dict[str, float]
    at_once: int


def fit_trials(settings: Search, nodes: Sequence[Node]) -> TrialResources:
    """Place trials on nodes.

    Args:
        settings: `workers_per_trial`, and where the user gave them `gpus_per_trial` and `cpus_per_trial`. Without the first a worker takes
            a GPU where the cluster has any; without the second the CPUs of a node are divided among the workers that it holds.
        nodes: Resources of each node.

    Raises:
        UserError: There is no machine, or a trial asks for more than the cluster has, or for shares that no node can give.
    """
    nodes, workers = machines(nodes), settings.workers_per_trial
    gpus, cpus = sum(n.get("GPU", 0.0) for n in nodes), sum(n.get("CPU", 0.0) for n in nodes)
    gpu = (float(workers) if gpus else 0.0) if settings.gpus_per_trial is None else settings.gpus_per_trial
    if gpu > gpus:
        raise UserError(
            f"a trial asks for {gpu:g} GPUs (search.gpus_per_trial), this Ray has {gpus:g}; lower it, or leave it out to take "
            f"{'one a worker' if gpus else 'CPUs alone'}"
        )
    if workers > 1 and gpu % workers:
        raise UserError(
            f"search.gpus_per_trial = {gpu:g} with search.workers_per_trial = {workers}: workers of one trial cannot share a GPU; give a "
            f"multiple of {workers}, or one worker"
        )
    gpu_share = gpu / workers
    cpu_share = _cpu_share(settings, nodes, gpu_share)
    if cpu_share * workers > cpus:
        raise UserError(
            f"a trial asks for {cpu_share * workers:g} CPUs ({workers} workers, search.cpus_per_trial), this Ray has {cpus:g}; ask for less"
        )
    at_once = sum(places(node, cpu_share, gpu_share) for node in nodes) // workers
    if not at_once:
        what = f"{cpu_share:g} CPUs" + (f" and {gpu_share:g} GPUs" if gpu_share else "")
        raise UserError(
            f"each of a trial's {workers} workers asks for {what} on one machine, and this Ray has no room for {workers} of them; "
            "lower search.cpus_per_trial, search.gpus_per_trial or search.workers_per_trial"
        )
    share = {"CPU": cpu_share, **({"GPU": gpu_share} if gpu_share else {})}
    if workers == 1:
        return TrialResources(share, {}, at_once)
    return TrialResources({HEAD: 0.001}, share, at_once)


def _cpu_share(settings: Search, nodes: Sequence[Node], gpu_share: float) -> float:
    """CPUs of a worker."""
    workers = settings.workers_per_trial
    if settings.cpus_per_trial is not None:
        return settings.cpus_per_trial / workers
    if gpu_share:
        with_gpus = [n for n in nodes if n.get("GPU", 0.0) >= gpu_share]
        return max(1.0, min((n["CPU"] // int(n["GPU"] / gpu_share) for n in with_gpus), default=1.0))
    with_cpus = [n["CPU"] for n in nodes]
    return max(1.0, min([*with_cpus, sum(with_cpus) // workers]))
