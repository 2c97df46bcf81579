"""Where a folder lies: on a disk, or in a bucket by its address, such as s3://bucket/shards. Pure text, nothing is looked at."""

import re
from pathlib import Path, PurePosixPath

from sacro_ray.errors import UserError

STORES = ("s3", "gs")
"""Schemes of object stores that are read and written; `file` is a folder of this machine. Every other scheme is refused."""


def in_store(location: str | Path) -> bool:
    """Whether this is the address of a folder in an object store."""
    return isinstance(location, str) and location.startswith(tuple(f"{scheme}://" for scheme in STORES))


def checked_location(given: str) -> str:
    """A folder as a user gives it: a path as it is, file:///PATH as that path, an address without a slash at its end.

    Raises:
        UserError: The name is not UTF-8, the scheme is none of those allowed, the address has no bucket, or it carries a key or settings.
    """
    if (shown := given.encode(errors="backslashreplace").decode()) != given:
        raise UserError(
            f"{shown} has bytes that are not UTF-8, and its name goes into files that are; rename it, or give a link to it"
        )
    scheme, separator, rest = given.partition("://")
    if not separator or not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", scheme):
        return given
    allowed = "a path, s3://BUCKET/FOLDER, gs://BUCKET/FOLDER or file:///FOLDER"
    if scheme == "file":
        if not rest.startswith("/"):
            raise UserError(f"{hidden(given)} is no folder of this machine; give {allowed}")
        return rest
    if scheme not in STORES:
        raise UserError(f"{scheme}:// is not among the schemes that are read and written; give {allowed}")
    bucket, _, folder = rest.partition("/")
    if "@" in bucket or ":" in bucket:
        raise UserError(
            f"an address of {scheme}:// with a key in it is refused, for addresses are written into files and logs; leave the key to "
            "the environment (AWS_PROFILE, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY), to ~/.aws, or to the machine's role"
        )
    names = folder.rstrip("/").split("/") if folder.rstrip("/") else []
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]+", bucket) or any(
        n in ("", ".", "..") or set(n) & set("?#\\") for n in names
    ):
        raise UserError(
            f"{hidden(given)} is no address of a folder in a bucket; give {allowed}. Region and endpoint come from AWS_REGION and "
            "AWS_ENDPOINT_URL"
        )
    return "/".join([f"{scheme}://{bucket}", *names])


def below(location: str | Path, *names: str) -> str:
    """A folder or file below this one: a path for a path, an address for an address."""
    return "/".join([str(location), *names]) if in_store(location) else str(Path(location, *names))


def as_given(location: str) -> str | Path:
    """A location as text: the path that it is, or the address as it is."""
    return location if in_store(location) else Path(location)


def safe_name(name: str) -> bool:
    """Whether a name that a store or a manifest gives stays within the folder that it is put into."""
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and "\\" not in name and "\0" not in name


def hidden(text: str) -> str:
    """The text without what stands before an @ in an address, which may be a key."""
    return re.sub(r"://\S*@", "://***@", text)
