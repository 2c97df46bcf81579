"""Which of Ray's errors mean that a machine or a process went away, and work that outlives its machine. All other errors are final."""

import logging
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from ray.exceptions import (
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    WorkerCrashedError,
)

from sacro_ray.cluster.runtime import answer
from sacro_ray.errors import UserError

log = logging.getLogger("sacro_ray")

MACHINE_LOST = (NodeDiedError, RayActorError, ObjectLostError)
"""A machine is gone with what ran on it (a task, an actor) or lay on it (a result): nothing is wrong with the work itself."""
PROCESS_DIED = (WorkerCrashedError, OutOfMemoryError)
"""The process of a task died while its machine lived on: the work itself may be what ends it."""
MOST_LOSSES = 5
"""Machines that may be lost over a piece of work: even spot machines seldom go one after the other within one shard."""
TOLD_EVERY_S = 10.0


def machine_lost(error: BaseException | None) -> bool:
    """Whether a machine that went away is behind an error, be it wrapped in others; an actor that failed as it began is no such case."""
    while error is not None:
        if isinstance(error, MACHINE_LOST) and not getattr(error, "actor_init_failed", False):
            return True
        error = getattr(error, "cause", None) or error.__cause__
    return False


def _process_ended(error: BaseException | None) -> bool:
    """Whether an actor's process ended while its machine lived on: Ray has one error for both, and tells them apart in its text alone."""
    while error is not None:
        if isinstance(error, RayActorError) and "its worker process has died" in str(error):
            return True
        error = getattr(error, "cause", None) or error.__cause__
    return False


class Losses:
    """Counts the machines that went away over each piece of work, and says so, once for all that a machine took with it."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._told: float | None = None

    def note(self, work: str, error: BaseException | None = None) -> None:
        """A machine, or by its `error` a process of an actor, was lost that had this to do.

        Raises:
            UserError: It was the last that may be lost over it.
        """
        self._counts[work] += 1
        ended = _process_ended(error)
        if self._counts[work] >= MOST_LOSSES and ended:
            raise UserError(
                f"the system ended the process {MOST_LOSSES} times while {work}, for want of memory perhaps (`dmesg` tells). What is "
                "complete is kept; take a machine with more memory, or end what else runs there, and run the same command again"
            )
        if self._counts[work] >= MOST_LOSSES:
            raise UserError(
                f"machines of the Ray cluster went away {MOST_LOSSES} times while {work}; what is complete is kept. See that they stay "
                "(`ray status` lists them), and run the same command again"
            )
        now = time.monotonic()
        if self._told is None or now - self._told > TOLD_EVERY_S:
            if ended:
                log.warning("the system ended a process while %s, for want of memory perhaps; another begins again", work)
            else:
                log.warning("a machine of the Ray cluster went away while %s; what it had to do is done elsewhere", work)
            self._told = now

    def outlived(self, work: str, start: Callable[[], Any], reference: Any = None) -> Any:
        """The result of a task, or of an actor's method, that is started again where its machine went away.

        Args:
            work: For messages: what is done.
            start: Starts it, and returns the reference to the result.
            reference: Of a start that was made before.

        Raises:
            UserError: Raised in it, or too many machines were lost over it.
        """
        while True:
            if reference is None:
                reference = start()
            try:
                return answer(reference)
            except RayError as error:
                if not machine_lost(error):
                    raise
                self.note(work, error)
            reference = None
