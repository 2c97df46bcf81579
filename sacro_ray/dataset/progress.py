"""Progress: a line now and then, with rate and time left."""

import logging
import time

log = logging.getLogger("sacro_ray")
SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Count radiographs, with rate and time left. Names nothing but the cohort."""

    def __init__(self, what: str, total: int) -> None:
        self._what, self._total, self._done = what, total, 0
        self._start = self._last = time.monotonic()

    def advance(self, count: int) -> None:
        """Note `count` more radiographs, and say so now and then."""
        self._done += count
        now = time.monotonic()
        if now - self._last >= SECONDS_BETWEEN_LINES:
            self._last = now
            rate = self._done / (now - self._start)
            left = (self._total - self._done) / rate if rate else 0.0
            log.info("%s: %d of %d radiographs, %.1f a second, %.0f s left", self._what, self._done, self._total, rate, left)

    def close(self) -> None:
        """Say the sum."""
        seconds = time.monotonic() - self._start
        log.info(
            "%s: %d radiographs in %.1f s, %.1f a second", self._what, self._done, seconds, self._done / max(seconds, 1e-3)
        )
