"""S3 by moto's server on 127.0.0.1, and a way to it that breaks in the middle."""

import logging
import os
import socket
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

boto3 = pytest.importorskip("boto3", reason="needs the package's dev extra")
pytest.importorskip("moto", reason="needs the package's dev extra")
pytest.importorskip("flask", reason="needs the package's dev extra")

BUCKET = "radiographs"
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "eu-central-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@contextmanager
def environment(**values: str) -> Iterator[None]:
    """These variables for as long as the block lasts."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class Bucket:
    """The bucket as another program sees it."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port, self.endpoint = host, port, f"http://{host}:{port}"
        # What moto holds belongs to the process and outlives its server.
        urllib.request.urlopen(urllib.request.Request(f"{self.endpoint}/moto-api/reset", method="POST")).close()
        self.client = boto3.client("s3", endpoint_url=self.endpoint, region_name="eu-central-1")
        self.client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})

    def objects(self, below: str = "") -> dict[str, bytes]:
        """Name below this folder, and bytes, of every object; empty ones that stand for folders are none."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=below)
        keys = [entry["Key"] for page in pages for entry in page.get("Contents", []) if not entry["Key"].endswith("/")]
        found = {}
        for key in keys:
            # One that went away since the listing is not there.
            with suppress(self.client.exceptions.NoSuchKey):
                found[key.removeprefix(below)] = self.client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        return found

    def changed(self, key: str) -> Any:
        """When an object was written last, to the second."""
        return self.client.head_object(Bucket=BUCKET, Key=key)["LastModified"]

    def put(self, key: str, data: bytes) -> None:
        """Make or replace an object."""
        self.client.put_object(Bucket=BUCKET, Key=key, Body=data)

    def delete(self, key: str) -> None:
        """Remove an object."""
        self.client.delete_object(Bucket=BUCKET, Key=key)


@contextmanager
def bucket() -> Iterator[Bucket]:
    """A bucket at the endpoint and with the credentials of the environment, for as long as the block lasts."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server: Any = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    with environment(**ENVIRONMENT):
        server.start()
        try:
            found = Bucket(*server.get_host_and_port())
            with environment(AWS_ENDPOINT_URL=found.endpoint):
                yield found
        finally:
            server.stop()


class BreakingProxy:
    """Passes bytes between its port and the store; the next `cuts` connections that have sent `after` bytes one way are cut off."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.target, self.cuts, self.after, self.broken = target, 0, 0, 0
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def break_next(self, cuts: int, after: int) -> None:
        """Cut so many connections, each after so many bytes."""
        with self._lock:
            self.cuts, self.after, self.broken = cuts, after, 0

    def close(self) -> None:
        """No more connections."""
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(self.target)
            except OSError:
                # The server has ended, and a client of a process that was killed or is ending asks once more.
                near.close()
                continue
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._pass, args=(one, other), daemon=True).start()

    def _pass(self, one: socket.socket, other: socket.socket) -> None:
        passed = 0
        try:
            while data := one.recv(65536):
                passed += len(data)
                if self._cut(passed):
                    other.sendall(data[: len(data) // 2])
                    break
                other.sendall(data)
        except OSError:
            pass
        for end in (one, other):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _cut(self, passed: int) -> bool:
        with self._lock:
            if self.cuts == 0 or passed < self.after:
                return False
            self.cuts -= 1
            self.broken += 1
            return True
