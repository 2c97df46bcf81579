"""Says when an actor or task of ours has found no place on the cluster for a minute: Ray waits for ever, and without a word."""

import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import ray
from ray._private.state import state
from ray.core.generated.gcs_pb2 import ActorTableData
from ray.util.placement_group import placement_group, placement_group_table, remove_placement_group

from sacro_ray.cluster.sizing import Node, cluster_nodes

log = logging.getLogger("sacro_ray")
PATIENCE_S, LOOK_S = 60.0, 5.0

Ask = tuple[str, ...]
"""What waits for a place, as text: `2 CPU, 1 GPU` for each of its processes."""


class Waits:
    """Remembers since when each actor and placement group has waited, and what has been told."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}
        self._told: set[Ask] = set()

    def look(self, pending: Mapping[str, Ask], nodes: Sequence[Node], now: float) -> list[str]:
        """Lines for what has now waited for `PATIENCE_S`: one for all that ask for the same, and not again while any of it waits.

        Args:
            pending: What waits for a place now, by the id of its actor or placement group.
            nodes: The living nodes.
            now: Seconds of a clock that only goes forward.
        """
        self._since = {name: self._since.get(name, now) for name in pending}
        self._told &= set(pending.values())
        late = [ask for name, ask in pending.items() if now - self._since[name] >= PATIENCE_S]
        new = sorted(set(late) - self._told)
        self._told |= set(new)
        have = "; ".join(sorted({described(node) for node in nodes})) or "no machine"
        return [
            f"waiting for a place on the cluster: {late.count(ask)} x ({' + '.join(ask)}); this Ray has {len(nodes)} machines "
            f"({have}), which are too small or taken by others. It goes on as soon as there is room"
            for ask in new
        ]


def described(resources: Mapping[str, float]) -> str:
    """CPUs and GPUs as text."""
    return ", ".join(f"{resources.get(kind, 0):g} {kind}" for kind in ("CPU", "GPU") if resources.get(kind)) or "0 CPU"


@contextmanager
def waits_told() -> Iterator[None]:
    """While the block lasts, log what of this job has waited for a place for `PATIENCE_S`."""
    ended, waits = threading.Event(), Waits()

    def watch() -> None:
        while not ended.wait(LOOK_S):
            try:
                for line in waits.look(_pending(), cluster_nodes(), time.monotonic()):
                    log.warning("%s", line)
            except Exception as error:  # a Ray that is gone ends the command itself
                log.debug("cannot see what waits: %s", error)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join(LOOK_S)  # a head that is gone keeps it waiting


def wait_for_room(cpus: float, gpus: float = 0.0) -> None:
    """Return when a machine has room for a task. Tasks are not in the tables in which `waits_told` looks; placement groups are."""
    group = placement_group([{"CPU": cpus, "GPU": gpus} if gpus else {"CPU": cpus}])
    try:
        while not group.wait(LOOK_S):
            pass
    finally:
        remove_placement_group(group)


def _pending() -> dict[str, Ask]:
    """Actors and placement groups of this job that have no place yet."""
    job = ray.get_runtime_context().get_job_id()
    found: dict[str, Ask] = {}
    for name, group in placement_group_table().items():
        if name.endswith(job) and group["state"] in ("PENDING", "RESCHEDULING"):
            found[name] = tuple(described(bundle) for bundle in group["bundles"].values())
    accessor, this = state._connect_and_get_accessor(), ray.JobID.from_hex(job)
    # RESTARTING: its machine went away, and no other has had room for it since.
    for row in (row for stage in ("PENDING_CREATION", "RESTARTING") for row in accessor.get_actor_table(this, stage)):
        actor = ActorTableData.FromString(row)
        # What is to run in a placement group waits with that.
        if not any("_group_" in kind for kind in actor.required_resources):
            found[actor.actor_id.hex()] = (described(actor.required_resources),)
    return found
