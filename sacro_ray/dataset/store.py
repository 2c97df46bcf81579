"""Objects of a bucket through pyarrow.fs: whole ones in and out, tried again where a connection breaks.

An object is there as soon as it has been sent to its end, and before that not at all; a file that is fetched is given its name when it
is complete. Credentials come from the environment, ~/.aws or the machine's role, and are never handled here.
"""

import hashlib
import logging
import os
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from sacro_ray.disk import whole
from sacro_ray.errors import UserError
from sacro_ray.locations import checked_location, safe_name

log = logging.getLogger("sacro_ray")
Answer = TypeVar("Answer")

TRIES, FIRST_PAUSE_S = 8, 0.5
"""Of each transfer; the pause doubles: a minute in all, then the command ends and can be started again."""
TRIES_TO_REACH = 4
"""Of the first contact, which a wrong address makes fail for good: 3.5 seconds."""
CLIENT_TRIES = 5
PIECE_BYTES = 8 * 2**20

CREDENTIALS = {
    "s3": "AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment, ~/.aws/credentials",
    "gs": "`gcloud auth application-default login`, GOOGLE_APPLICATION_CREDENTIALS in the environment",
}
NO_BUCKET = re.compile(r"NO_SUCH_BUCKET|Bucket '[^']*' not found|\bbucket\b.*(not found|does not exist)", re.IGNORECASE)
REFUSED = re.compile(
    r"ACCESS_DENIED|INVALID_ACCESS_KEY_ID|INVALID_CLIENT_TOKEN_ID|SIGNATURE_DOES_NOT_MATCH|EXPIRED_TOKEN|INVALID_TOKEN|MISSING_AUTH"
    r"|INVALID_SIGNATURE|UNRECOGNIZED_CLIENT|ExpiredToken|InvalidToken|HTTP status 40[13]|PERMISSION_DENIED|UNAUTHENTICATED|credentials"
    r"|access token",
    re.IGNORECASE,
)


class Store:
    """A folder in a bucket.

    Attributes:
        address: scheme://bucket/folder.
        base: bucket/folder, as `files` has it.
        files: pyarrow's file system.
    """

    def __init__(self, address: str) -> None:
        self.address = checked_location(address)
        scheme, _, self.base = self.address.partition("://")
        self.bucket = self.base.partition("/")[0]
        self.files = self._steadily("reach", lambda: _file_system(scheme, self.bucket, _endpoint()), TRIES_TO_REACH)

    def sizes(self, folder: str = "") -> dict[str, int]:
        """Name below this folder, and bytes, of every object in it or in a folder of it."""
        from pyarrow.fs import FileSelector

        where = f"{self.base}/{folder}" if folder else self.base
        try:
            found = self._steadily("list", lambda: self.files.get_file_info(FileSelector(where, recursive=True)))
        except FileNotFoundError:
            return {}
        sizes = {info.path.removeprefix(f"{self.base}/"): int(info.size) for info in found if info.is_file}
        if not all(map(safe_name, sizes)):
            raise UserError(f"{self.address} holds an object whose name leads out of its folder; remove it first")
        return sizes

    def read(self, name: str) -> bytes | None:
        """An object's bytes, or None where there is none of this name."""

        def whole() -> bytes:
            with self.files.open_input_stream(f"{self.base}/{name}") as stream:
                return bytes(stream.read())

        try:
            return self._steadily(f"read {name} of", whole)
        except FileNotFoundError:
            return None

    def write(self, name: str, data: bytes) -> None:
        """Make or replace an object."""
        self._steadily(f"write {name} to", lambda: self._upload(name, data))

    def put(self, source: Path, name: str) -> None:
        """Make or replace an object with a file's bytes."""
        import pyarrow as pa

        def whole() -> None:
            if source.stat().st_size == 0:
                return self._upload(name, b"")  # an empty file cannot be mapped
            with pa.memory_map(str(source)) as file:
                return self._upload(name, file.read_buffer())

        self._steadily(f"write {name} to", whole)

    def _upload(self, name: str, data: Any) -> None:
        def whole() -> None:
            stream = self.files.open_output_stream(f"{self.base}/{name}")
            stream.write(data)
            stream.close()

        # In a thread of its own, which Ctrl-C does not end: a stream that is dropped half-way makes half an object a whole one.
        with ThreadPoolExecutor(1) as apart:
            apart.submit(whole).result()

    def digest(self, name: str) -> str:
        """Hexadecimal SHA-256 of an object, read through once and not kept."""
        return self._steadily(f"read {name} of", lambda: self._stream(name, lambda piece: None))

    def fetch(self, name: str, target: Path, sha256: str | None = None) -> None:
        """Bring an object to the disk; `target` is there when it is complete, and has the digest, where one is given.

        Raises:
            FileNotFoundError: There is no such object.
            UserError: It has another digest.
            DiskError: This machine's disk does not take it.
        """

        def bring(temporary: Path) -> None:
            with temporary.open("wb") as file:
                found = self._stream(name, file.write)
            if sha256 is not None and found != sha256:
                raise OSError("its SHA-256 is not the one expected")

        with whole(target, durable=False) as temporary:
            self._steadily(f"read {name} of", lambda: bring(temporary))

    def delete(self, name: str) -> None:
        """Remove an object; it may be gone already."""
        try:
            self._steadily(f"delete {name} of", lambda: self.files.delete_file(f"{self.base}/{name}"))
        except FileNotFoundError:
            return

    def delete_folder(self, folder: str) -> None:
        """Remove all objects of a folder below; there may be none."""
        try:
            self._steadily(f"delete {folder}/ of", lambda: self.files.delete_dir(f"{self.base}/{folder}"))
        except FileNotFoundError:
            return

    def _stream(self, name: str, take: Callable[[bytes], Any]) -> str:
        digest = hashlib.sha256()
        with self.files.open_input_stream(f"{self.base}/{name}") as stream:
            while piece := stream.read(PIECE_BYTES):
                digest.update(piece)
                take(piece)
        return digest.hexdigest()

    def _steadily(self, what: str, act: Callable[[], Answer], tries: int | None = None) -> Answer:
        """Act, and again after a pause where the connection or the store failed.

        Raises:
            FileNotFoundError: There is no such object.
            UserError: It will not work the next time either: no such bucket, no right to it, or nothing answers.
        """
        problem = ""
        for attempt in range(tries or TRIES):
            if attempt:
                pause = FIRST_PAUSE_S * 2 ** (attempt - 1)
                log.warning("could not %s %s (%s); again in %g s", what, self.address, problem, pause)
                time.sleep(pause)
            try:
                return act()
            except OSError as error:
                # What this machine's own disk says comes with a number; what the store says does not.
                if error.errno is not None:
                    raise
                self._refuse_for_good(str(error))
                problem = _in_short(str(error))
        raise UserError(
            f"could not {what} {self.address}: {problem}. See that the network and the address are right (another endpoint than the "
            "cloud's own comes from AWS_ENDPOINT_URL), then start the same command again; it goes on from what is complete"
        )

    def _refuse_for_good(self, message: str) -> None:
        if REFUSED.search(message):
            raise UserError(
                f"{self.address}: the store refuses. Give credentials that may list, read, write and delete there: "
                f"{CREDENTIALS[self.address.partition('://')[0]]}, or the machine's role"
            )
        if NO_BUCKET.search(message):
            raise UserError(f"{self.address}: there is no bucket {self.bucket}; make it, or correct its name")


def _endpoint() -> str | None:
    """Where another store than the cloud's own answers; pyarrow's constructor does not look at these variables by itself."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")


def ray_file_system(address: str) -> Any:
    """Pyarrow's file system for Ray's own use: it tries again by itself, for nobody else does."""
    scheme, _, base = checked_location(address).partition("://")
    return _file_system(scheme, base.partition("/")[0], _endpoint(), CLIENT_TRIES)


@cache
def _file_system(scheme: str, bucket: str, endpoint: str | None, tries: int = 1) -> Any:
    import datetime

    from pyarrow import fs

    if scheme == "gs":
        files = fs.GcsFileSystem(retry_time_limit=datetime.timedelta(seconds=10))
    else:
        files = fs.S3FileSystem(
            endpoint_override=endpoint,
            region=None if endpoint else fs.resolve_s3_region(bucket),
            # Objects are sent in parts, whatever their size (allow_delayed_open stays off): one that breaks leaves the old object as it
            # was. The client does not try again by itself: a part that it sends once more may be empty (aws-sdk-cpp #3706, #3903).
            retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=tries),
        )
    # Asked once: an object in a bucket that is not there would look like one that is missing.
    if files.get_file_info(bucket).type == fs.FileType.NotFound:
        raise OSError(f"Bucket '{bucket}' not found")
    return files


def _in_short(message: str) -> str:
    """A store's message without its ids and details."""
    found = re.search(r"AWS Error (.*?)(; Details|\(Request ID|$)", message)
    return (found.group(1) if found else message)[:200].strip().rstrip(".")
