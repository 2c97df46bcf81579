"""What every command shares: its arguments, its log on standard error, its exit status.

Imported before anything that takes time, so that Ctrl-C is heard while the rest is imported.
"""

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from sacro_ray import home, interruption
from sacro_ray.disk import for_the_user
from sacro_ray.errors import UserError
from sacro_ray.terminal import descriptor_of, wrapped

if TYPE_CHECKING:
    from sacro_ray.config import Experiment

log = logging.getLogger("sacro_ray")


def parser(name: str, does: str, example: str) -> argparse.ArgumentParser:
    """An argument parser in the house's form: what the command does, and one example."""
    return argparse.ArgumentParser(
        prog=f"sacro-ray {name}",
        description=does,
        epilog=f"example: {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_common(arguments: argparse.ArgumentParser) -> None:
    """Add `--set` and `--address`, which all commands take."""
    arguments.add_argument(
        "--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="override a configuration value; repeatable"
    )
    arguments.add_argument(
        "--address", default=None, help="Ray: local, auto or an address (default: RAY_ADDRESS, or else a local Ray)"
    )


def experiment_of(given: str, overrides: Sequence[str]) -> "Experiment":
    """The experiment file at a path or, as the best.toml of a sweep in a bucket, at an address; the errors of `load_experiment`."""
    from sacro_ray.config import load_experiment, parse_experiment
    from sacro_ray.dataset.store import Store
    from sacro_ray.locations import checked_location, in_store

    place = checked_location(given)
    if not in_store(place):
        return load_experiment(place, overrides)
    folder, _, name = place.rpartition("/")
    content = Store(folder).read(name)
    if content is None:
        raise UserError(f"no experiment file at {place}; give that of a .toml file, such as the best.toml of a sweep")
    return parse_experiment(content, overrides, source=place)


def run(
    main: Callable[[list[str]], Path | str | None],
    argv: list[str] | None = None,
    kept: str = "what is complete is kept",
    goes_on: bool = True,
) -> None:
    """Run a command: print the path that it returns as the last line of standard output, and exit with 0, 1, 2, 130 or 143.

    A `UserError`, or a disk that is full, read-only or forbidden, is one message on standard error and status 2, also where it comes
    back from another process. Ctrl-C is status 130 and one line, SIGTERM the same with 143. Anything else keeps its traceback.

    Args:
        main: Parses, validates and calls.
        argv: Its arguments; by default those of the process.
        kept: What is kept when the command is interrupted, for the line that says so.
        goes_on: Whether the command, given again, goes on with what is kept.
    """
    with interruption.heard(kept, goes_on) as heard:
        _set_up_log()
        try:
            home.provide()
            result = main(sys.argv[1:] if argv is None else argv)
        except BaseException as error:
            if heard.number is not None or isinstance(error, KeyboardInterrupt):
                heard.say()
                raise SystemExit(heard.status) from None
            if (told := for_the_user(error)) is None:
                raise
            log.debug("", exc_info=True)
            print(wrapped(f"error: {told}", descriptor_of(sys.stderr)), file=sys.stderr)
            raise SystemExit(2) from None
        if result is not None:
            print(result, flush=True)


def _set_up_log() -> None:
    handler = _Wrapping(sys.stderr)
    logging.basicConfig(level=logging.INFO, handlers=[handler], format="%(message)s", force=True)
    logging.captureWarnings(True)
    # It tells at INFO that it looks through the machine's fonts.
    logging.getLogger("matplotlib").setLevel(logging.WARNING)


class _Wrapping(logging.StreamHandler[TextIO]):
    """Wraps what goes to a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return wrapped(super().format(record), descriptor_of(self.stream))
