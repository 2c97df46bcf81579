"""A place for what programs keep in a user's home, where there is no home or it cannot be written: containers, queues, odd user ids."""

import logging
import os
import pwd
import secrets
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from sacro_ray.errors import UserError

log = logging.getLogger("sacro_ray")
CACHES = {"XDG_CACHE_HOME": "cache", "MPLCONFIGDIR": "matplotlib"}
"""Variables by which this program, PyTorch and Matplotlib find another folder for their caches, and the folder's name."""
TOKEN = "ray_auth_token"


def home() -> Path | None:
    """The user's home folder, if it is there."""
    try:
        found = Path.home()
    except RuntimeError:  # neither HOME nor an entry for this user id
        return None
    return found if os.path.isdir(found) else None  # Path.is_dir raises where a folder above may not be entered


def writable(folder: Path) -> bool:
    """Whether a file can be made there; tried, for what the rights say is not all. Nothing is left behind."""
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return False
    return True


def provide() -> None:
    """See that this process and those that it starts find folders to keep things in, and say where, if that is not the home."""
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        os.environ.setdefault("LOGNAME", f"user-{os.getuid()}")  # PyTorch asks for a name and ends without one
    found = home()
    if found is not None and writable(found):
        return
    there = private_folder()
    if found is None:
        os.environ["HOME"] = str(there)
    told = "SACRO_RAY_CACHE" in os.environ
    for name, folder in CACHES.items():
        os.environ.setdefault(name, str(there / folder))
    if not told:
        log.warning(
            "%s: what is cached goes to %s. Set SACRO_RAY_CACHE to a folder on a disk with room, which keeps it",
            "there is no home folder" if found is None else f"the home folder {found} cannot be written",
            os.environ["XDG_CACHE_HOME"],
        )


def provide_token() -> None:
    """A token for a Ray of our own where Ray cannot keep its own in the home: it would end with a traceback."""
    found = home()
    if {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys() or (found and _holds_token(found)):
        return
    path = private_folder() / TOKEN
    if not path.exists():
        # Whole, and the first one stays: another command that starts at the same time may have read it.
        with tempfile.NamedTemporaryFile("w", dir=path.parent, encoding="ascii") as file:
            file.write(secrets.token_hex(32))
            file.flush()
            with suppress(FileExistsError):
                os.link(file.name, path)
    os.environ["RAY_AUTH_TOKEN_PATH"] = str(path)


def _holds_token(found: Path) -> bool:
    """Whether Ray finds its token in a home, or can put one there."""
    token = found / ".ray" / "auth_token"
    place = next(path for path in (token, token.parent, found) if path.exists())
    return os.access(place, os.R_OK) if place == token else writable(place)


def stand_in() -> Path:
    """Where `private_folder` is, if it is there."""
    return Path(tempfile.gettempdir()) / f"sacro_ray-{os.getuid()}"


def private_folder() -> Path:
    """A folder of this user alone in the temporary directory, the same in every process of the user.

    Raises:
        UserError: Somebody else has put one of this name there.
    """
    folder = stand_in()
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise UserError(f"{folder} is not a folder of this user alone; remove it, or set TMPDIR to another folder")
    return folder
