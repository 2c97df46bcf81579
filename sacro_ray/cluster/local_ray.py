"""How a Ray of our own is started: on the loopback of this machine alone, and with its sockets where their paths are short enough."""

import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray._common.utils import get_default_ray_temp_dir
from ray._private import ray_constants

from sacro_ray.errors import UserError
from sacro_ray.home import provide_token

log = logging.getLogger("sacro_ray")
LONGEST_SOCKET = 107
"""Bytes of the path of a socket (unix(7))."""
LONGEST_FOLDER = LONGEST_SOCKET - len("/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store")
"""Bytes of Ray's temporary folder, so that the sockets below it have paths that are short enough."""
LOG_LEVEL = "RAY_BACKEND_LOG_LEVEL"
SHORT_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")


@contextmanager
def local_ray(**settings: Any) -> Iterator[None]:
    """Run a Ray of this process's own for as long as the block lasts; `settings` are of `ray.init`.

    Raises:
        UserError: There is no folder for its sockets.
    """
    with temporary_folder() as folders:
        with _on_loopback(), _environment(**({"TMPDIR": folders["_temp_dir"]} if folders else {})):
            provide_token()
            # Not without the dashboard: Tune then leaks the placement group of the first trial that is stopped early.
            initialise(address="local", include_dashboard=True, dashboard_host="127.0.0.1", **folders, **settings)
        try:
            yield
        finally:
            ray.shutdown()


def initialise(**settings: Any) -> None:
    """`ray.init`, less the line by which Ray's core says that its log level was set, before it keeps to that level."""
    if LOG_LEVEL not in os.environ:
        ray.init(**settings)
        return
    sys.stderr.flush()
    screen = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            ray.init(**settings)
        finally:
            sys.stderr.flush()
            os.dup2(screen, 2)
            os.close(screen)
            said.seek(0)
            os.write(2, b"".join(line for line in said if LOG_LEVEL.encode() not in line))


@contextmanager
def temporary_folder() -> Iterator[dict[str, str]]:
    """Settings of `ray.init` for its temporary folder: none, or a short one for as long as the block lasts.

    Raises:
        UserError: There is neither.
    """
    usual = get_default_ray_temp_dir()
    if not (trouble := _trouble(usual)):
        yield {}
        return
    for parent in SHORT_FOLDERS:
        try:
            short = tempfile.mkdtemp(prefix="ray-", dir=parent)  # this user's alone: mode 0700
        except OSError:
            continue
        break
    else:
        raise UserError(f"Ray cannot keep its sockets in {usual}: {trouble}; set RAY_TMPDIR to a folder with a short path")
    log.info("Ray keeps its sockets in %s and not in %s: %s", short, usual, trouble)
    there = os.path.dirname(usual)
    try:
        # What does not fit into its memory stays where the user has room.
        yield {"_temp_dir": short, **({"object_spilling_directory": there} if not _not_writable(there) else {})}
    finally:
        shutil.rmtree(short, ignore_errors=True)


def _trouble(folder: str) -> str | None:
    """Why Ray cannot have its sockets there."""
    if (length := len(os.fsencode(folder))) > LONGEST_FOLDER:
        return f"its path has {length} bytes, and Linux allows {LONGEST_SOCKET} for a socket, which leaves {LONGEST_FOLDER}"
    return _not_writable(folder)


def _not_writable(folder: str) -> str | None:
    """Why no file can be written there."""
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return error.strerror


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    """Variables for the processes that are started in the block, and for theirs."""
    before = {name: os.environ.get(name) for name in values}
    os.environ |= values
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _on_loopback() -> Iterator[None]:
    """Ray listens and speaks on 127.0.0.1 alone: the address of a network card may change, and others can reach it."""
    before = ray_constants.ENABLE_RAY_CLUSTER
    # Ray's own switch, off on macOS and Windows: with it Ray takes the address of a network card even where 127.0.0.1 is given.
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        # Without it the ranks of a training would meet at the address of a network card.
        with _environment(GLOO_SOCKET_IFNAME="lo0" if sys.platform == "darwin" else "lo"):
            yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before
