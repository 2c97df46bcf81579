"""What every command shares: its arguments, its log on standard error, its exit status."""

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from sacro_ray.config import Experiment, load_experiment, parse_experiment
from sacro_ray.dataset.store import Store
from sacro_ray.errors import UserError
from sacro_ray.locations import checked_location, in_store

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


def experiment_of(given: str, overrides: Sequence[str]) -> Experiment:
    """The experiment file at a path or, as the best.toml of a sweep in a bucket, at an address; the errors of `load_experiment`."""
    place = checked_location(given)
    if not in_store(place):
        return load_experiment(place, overrides)
    folder, _, name = place.rpartition("/")
    content = Store(folder).read(name)
    if content is None:
        raise UserError(f"no experiment file at {place}; give that of a .toml file, such as the best.toml of a sweep")
    return parse_experiment(content, overrides, source=place)


def run(main: Callable[[list[str]], Path | str | None], argv: list[str] | None = None) -> None:
    """Run a command: print the path it answers as the last line of standard output, and exit 0, 1 or 2.

    A `UserError` is one message on standard error and status 2. Ctrl-C is status 130 and one line. Anything else keeps its traceback.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s", force=True)
    logging.captureWarnings(True)
    # It tells at INFO that it looks through the machine's fonts.
    logging.getLogger("matplotlib").setLevel(logging.WARNING)
    try:
        result = main(sys.argv[1:] if argv is None else argv)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("interrupted; what is complete is kept, start the same command again to go on", file=sys.stderr)
        raise SystemExit(130) from None
    if result is not None:
        print(result, flush=True)
