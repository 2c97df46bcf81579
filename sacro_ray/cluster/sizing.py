"""What fits on a machine: actors and tasks are sized by the nodes of a cluster, never by their sum."""

from collections.abc import Mapping, Sequence

import ray

from sacro_ray.errors import UserError

Node = Mapping[str, float]
"""Resources of a node by Ray's names: CPU, GPU."""
ROUNDING = 1e-9


def cluster_nodes() -> list[Node]:
    """Resources of each living node of the Ray that this process has joined."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def machines(nodes: Sequence[Node]) -> list[Node]:
    """The nodes on which something can be computed.

    Raises:
        UserError: There are none: a cluster that grows brings its machines only when somebody asks for them.
    """
    found = [node for node in nodes if node.get("CPU", 0) >= 1]
    if not found:
        raise UserError(
            f"this Ray has no machine with a CPU to compute on yet ({len(nodes)} nodes without); wait until `ray status` shows one, or let "
            "`python deploy/with_gpus.py GPUS -- COMMAND ...` ask for machines with GPUs, wait for them and run the command"
        )
    return found


def places(node: Node, cpus: float, gpus: float = 0.0) -> int:
    """How many actors that each take so many CPUs and GPUs a node holds; a fraction of a GPU lies on one GPU."""
    by_cpu = int(node.get("CPU", 0.0) / cpus + ROUNDING)
    if not gpus:
        return by_cpu
    whole = int(node.get("GPU", 0.0) + ROUNDING)
    by_gpu = whole * int(1 / gpus + ROUNDING) if gpus <= 1 else int(whole / gpus + ROUNDING)
    return min(by_cpu, by_gpu)


def largest_share(nodes: Sequence[Node], most_cpus: int) -> tuple[int, int]:
    """CPUs and GPUs for the one actor that does a job alone: a GPU where a machine has one, and CPUs beside it.

    Before the machines have come it is one CPU, for which Ray waits.
    """
    with_gpus = [node for node in nodes if node.get("GPU", 0) >= 1 and node.get("CPU", 0) >= 1]
    cpus = max((node.get("CPU", 0.0) for node in with_gpus or nodes), default=1.0)
    return max(1, min(most_cpus, int(cpus))), int(bool(with_gpus))


def own_cpus() -> int:
    """CPUs for this actor or task: those that Ray assigned to it, at least 1."""
    return max(1, int(ray.get_runtime_context().get_assigned_resources().get("CPU", 1)))


def cpus_of_this_node() -> int:
    """CPUs of the node on which this actor or task runs, at least 1: for one that has the machine to itself."""
    here = ray.get_runtime_context().get_node_id()
    return max([1, *(int(node["Resources"].get("CPU", 1)) for node in ray.nodes() if node["NodeID"] == here)])
