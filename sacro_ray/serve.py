"""`serve --run RUN_DIR`: a page and an HTTP interface that score one radiograph at a time."""

import argparse
import contextlib
import logging
import socket
import sys
import threading

from sacro_ray import command
from sacro_ray.errors import UserError
from sacro_ray.locations import as_given, checked_location

log = logging.getLogger("sacro_ray")

LARGEST_UPLOAD_MIB = 64
"""A detector of 20 million pixels with 16 bit gives 40 MiB."""


def main(argv: list[str]) -> None:
    """Serve until Ctrl-C or SIGTERM; prints the address when the page is there."""
    parser = command.parser(
        "serve",
        "Serve a page on which radiographs are dropped and scored, and the same over HTTP (POST /score, described at /docs). "
        "For a run that was trained on radiographs cut to boxes the page asks for the box. "
        "Nothing uploaded is kept or logged. There is no login: leave it at 127.0.0.1, or put one before it. Research use only.",
        "python -m sacro_ray.serve --run experiments/runs/demo",
    )
    parser.add_argument(
        "--run", required=True, metavar="RUN_DIR", help="the run folder that train wrote, or its s3://... address"
    )
    parser.add_argument("--host", default="127.0.0.1", help="where to listen (default: %(default)s, this machine only)")
    parser.add_argument("--port", type=_port, default=8000, help="where to listen (default: %(default)s)")
    parser.add_argument(
        "--largest-upload",
        type=_mebibytes,
        default=LARGEST_UPLOAD_MIB,
        metavar="MIB",
        help="largest file that is taken, MiB (default: %(default)s)",
    )
    command.add_common(parser)
    arguments = parser.parse_args(argv)
    location = as_given(checked_location(arguments.run))
    log.info("serve: %s at %s port %d", location, arguments.host, arguments.port)
    from sacro_ray.cluster.scoring_run import ScoringRun

    run = ScoringRun.at(location, arguments.set)
    _check_free(arguments.host, arguments.port)
    from sacro_ray.cluster.serving import served

    results = sys.stdout
    # Ray says there what belongs in the log.
    with (
        contextlib.redirect_stdout(sys.stderr),
        served(run, arguments.host, arguments.port, arguments.address, int(arguments.largest_upload * 2**20)) as url,
    ):
        print(url, file=results, flush=True)
        log.info("serving until Ctrl-C; research use only")
        threading.Event().wait()


def _check_free(host: str, port: int) -> None:
    """Raise a UserError where nothing can listen: the name or the port is wrong, or the port is taken."""
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
    except (OSError, UnicodeError) as error:  # the latter for a name that no host can have
        problem = error.strerror if isinstance(error, OSError) else "no name of a host"
        raise UserError(f"nothing can listen at {host} port {port} ({problem}); give another --host or --port") from None


def _port(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text} is no port; give a number from 1 to 65535")
    return int(text)


def _mebibytes(text: str) -> float:
    try:
        size = float(text)
    except ValueError:
        size = 0.0
    if not 0 < size <= 1024:
        raise argparse.ArgumentTypeError(f"{text} is no size; give MiB, more than 0 and at most 1024")
    return size


def cli(argv: list[str] | None = None) -> None:
    """Entry of the command."""
    command.run(main, argv, kept="the page is closed, and nothing uploaded was kept", goes_on=False)


if __name__ == "__main__":
    cli()
