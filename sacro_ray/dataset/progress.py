"""Progress: a line now and then, with rate and time left as soon as these can be told."""

import logging
import time
from collections.abc import Callable

log = logging.getLogger("sacro_ray")
SECONDS_BETWEEN_LINES = 10.0
ENOUGH_S = 10.0
"""From the first result to the one at which a rate is first told. What comes before the first result is workers starting, and those
then bring their first results at nearly the same moment."""


class Progress:
    """Count radiographs, with rate and time left. Names nothing but the cohort.

    Args:
        what: What is done to them.
        total: How many there are to do.
        clock: Seconds of a clock that only goes forward.
    """

    def __init__(self, what: str, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._what, self._total, self._done, self._clock = what, total, 0, clock
        self._start = self._last = clock()
        self._first: tuple[float, int] | None = None

    def advance(self, count: int) -> None:
        """Note `count` more radiographs, and say so now and then."""
        self._done += count
        now = self._clock()
        if self._first is None:
            self._first = now, self._done
        if now - self._last >= SECONDS_BETWEEN_LINES:
            self._last = now
            log.info("%s: %d of %d radiographs%s", self._what, self._done, self._total, self._outlook(now))

    def _outlook(self, now: float) -> str:
        """Rate and time left by what came after the first result; nothing before enough of it has come."""
        assert self._first is not None
        since, before = self._first
        if now - since < ENOUGH_S or self._done == before:
            return ""
        rate = (self._done - before) / (now - since)
        return f", {rate:.1f} a second, {(self._total - self._done) / rate:.0f} s left"

    def close(self) -> None:
        """Say the sum."""
        seconds = self._clock() - self._start
        log.info(
            "%s: %d radiographs in %.1f s, %.1f a second", self._what, self._done, seconds, self._done / max(seconds, 1e-3)
        )
