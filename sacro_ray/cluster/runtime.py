"""Start or join Ray, in one place and one way."""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import ray
from ray._private import auto_init_hook

from sacro_ray import interruption
from sacro_ray.cluster.local_ray import initialise, local_ray
from sacro_ray.cluster.memory import memory_explained
from sacro_ray.cluster.reaching import no_ray, refuse_unreachable
from sacro_ray.cluster.waiting import waits_told
from sacro_ray.errors import UserError

log = logging.getLogger("sacro_ray")

# The Train page of the dashboard needs state tracking; reports are drained once per health check, 2 s by default,
# which is longer than an epoch of a small cohort.
ENVIRONMENT = {
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "1",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    # Where one rank has failed, the others wait for it in a collective: their process group does not come to its own end.
    "TORCH_PROCESS_GROUP_SHUTDOWN_TIMEOUT_S": "2",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Tune's own tables go to standard output, which is for results.
    "RAY_AIR_NEW_OUTPUT": "0",
    # A sweep keeps its own record of each trial: no files of Tune's loggers, no snapshot of Tune's state every few seconds, and a trial's
    # error is a line of ours. Ctrl-C is the command's, and a worker is given time to end one trial before it begins the next.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1e9",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    # A trial that failed before its first epoch ends without a metric.
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_FUNCTION_THREAD_TIMEOUT_S": "120",
    # The paths of an experiment file are relative to the working directory; workers must stand in it, too.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    # Ray starts its workers at nice 15, below its own daemons: on 2 cores, 24 images/s of training in place of 28.
    "RAY_worker_niceness": "0",
}
# Where a bucket is, for the workers of a cluster that was started elsewhere. Never a key: Ray shows these on its dashboard.
OF_BUCKETS = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION")


@contextmanager
def ray_session(address: str | None = None, takes_less: str = "use a machine with more") -> Iterator[None]:
    """Join the Ray cluster at `address` for as long as the block lasts; without one, RAY_ADDRESS, or else a local Ray of our own.

    A Ray that this process already runs is used and left running.

    Args:
        address: `local`, `auto`, HOST:PORT or ray://HOST:PORT.
        takes_less: What the user can do where the memory of a machine runs out.

    Raises:
        UserError: No Ray answers at the address, or a machine has run out of memory.
    """
    if ray.is_initialized():
        with memory_explained(takes_less):
            yield
        return
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    # Without a connection many a call to Ray starts one; the watch over what waits may make its last call after the end of this Ray.
    auto_init_hook.enable_auto_connect = False
    target = address or os.environ.get("RAY_ADDRESS") or "local"
    joined = local_ray if target == "local" else partial(_joined, target)
    log.info("starting Ray" if target == "local" else f"joining Ray at {target}")
    handlers = interruption.handlers()
    # What Ray's daemons tell of their work, whatever `log_to_driver` says, and on standard output, which is for results.
    ray._private.worker.print_to_stdstream = _told_by_daemons
    with memory_explained(takes_less), joined(logging_level=logging.ERROR, log_to_driver=False), waits_told():
        interruption.put_back(handlers)  # Ray takes SIGTERM
        yield


def _told_by_daemons(data: Mapping[str, Any], ignore_prefix: bool = False) -> None:
    log.debug("Ray: %s", "\n".join(data["lines"]))


@contextmanager
def _joined(target: str, **settings: Any) -> Iterator[None]:
    """Join the cluster at an address for as long as the block lasts; `settings` are of `ray.init`."""
    refuse_unreachable(target)
    told = {name: os.environ[name] for name in (*ENVIRONMENT, *OF_BUCKETS) if name in os.environ}
    try:
        initialise(address=target, runtime_env={"env_vars": told}, **settings)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise no_ray(target, error) from None
    try:
        yield
    finally:
        ray.shutdown()


def answer(reference: Any) -> Any:
    """The result of a Ray task; a `UserError` in it comes back as itself and not wrapped in the worker's traceback."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise error.cause from None
        raise
