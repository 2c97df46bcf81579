"""Ctrl-C and SIGTERM: the first unwinds a command, the second ends it at once; in either case one line says what is kept and how to go on.

Python's own exception alone does not do: an extension that is being imported, or a thread of Ray's, turns it into another error, and some
code swallows it. So what counts is that a signal came, and not with which exception the command then ended.
"""

import logging
import multiprocessing
import os
import shlex
import signal
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from sacro_ray.terminal import wrapped

STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143}
"""Exit status by signal: 128 and its number, as a shell reports it."""
LONGEST_ENDING_S = 20.0
"""After that a command that cannot end is ended."""


class Interruption:
    """What has been heard of signals, and what is to be said of them.

    Attributes:
        number: The signal that came first, or None.
    """

    def __init__(self, kept: str, goes_on: bool) -> None:
        self.number: signal.Signals | None = None
        self._kept, self._goes_on = kept, goes_on
        self._said = False
        self._screen = os.dup(2)  # while Ray starts, standard error leads elsewhere
        weakref.finalize(self, os.close, self._screen)

    def hear(self, number: int, frame: FrameType | None) -> None:
        """The handler: unwind at the first signal, end at the second."""
        if self.number is not None:
            self.end_at_once()
        self.number = signal.Signals(number)
        logging.disable(logging.CRITICAL)  # what is torn down complains of it
        patience = threading.Timer(LONGEST_ENDING_S, self.end_at_once)
        patience.daemon = True
        patience.start()
        raise KeyboardInterrupt

    @property
    def status(self) -> int:
        """The exit status."""
        return STATUS[self.number or signal.SIGINT]

    def say(self) -> None:
        """Write the line to standard error, once, and past Python's buffers, which the signal may have come in the middle of."""
        if self._said:
            return
        self._said = True
        what = "ended by SIGTERM" if self.number == signal.SIGTERM else "interrupted"
        again = f"; to go on: {command_again()}" if self._goes_on else ""
        below_the_echo = "\n" if os.isatty(self._screen) else ""
        os.write(self._screen, f"{below_the_echo}{wrapped(f'{what}; {self._kept}{again}', self._screen)}\n".encode())

    def end_at_once(self) -> None:
        """End this process and those that it started."""
        for child in multiprocessing.active_children():
            child.kill()
        if os.isatty(self._screen):
            os.write(self._screen, b"\x1b[?25h")  # the cursor, which a live table hides
        self.say()
        os._exit(self.status)


_options_to_go_on: list[str] = []


def goes_on_with(*options: str) -> None:
    """From here on the command, interrupted, goes on only with these options in addition."""
    _options_to_go_on[:] = options


def command_again() -> str:
    """The command line that goes on with what this process does."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    program = ["python", "-m", spec.name.removesuffix(".__main__")] if spec else [Path(sys.argv[0]).name]
    given = sys.argv[1:]
    return shlex.join([*program, *given, *(option for option in _options_to_go_on if option not in given)])


@contextmanager
def heard(kept: str, goes_on: bool) -> Iterator[Interruption]:
    """Listen for as long as the block lasts. A signal that the process was started to ignore, as under nohup, stays ignored.

    Args:
        kept: What a user finds kept, for the line.
        goes_on: Whether there is a command that goes on.
    """
    goes_on_with()
    interruption = Interruption(kept, goes_on)
    before = handlers()
    for number, handler in before.items():
        if handler != signal.SIG_IGN:
            signal.signal(number, interruption.hear)
    try:
        yield interruption
    finally:
        if interruption.number is None:
            for number, handler in before.items():
                signal.signal(number, handler)


def handlers() -> dict[int, Any]:
    """What listens to both signals now, for `put_back`."""
    return {number: signal.getsignal(number) for number in STATUS}


def put_back(before: dict[int, Any]) -> None:
    """Have them listen again where a library has taken their place; the system's defaults, of a process that is no command, stay away."""
    if threading.current_thread() is threading.main_thread():
        for number, handler in before.items():
            if callable(handler):
                signal.signal(number, handler)
