"""Objects in and out of a bucket: whole or not at all, over connections that break, and the user's mistakes."""

import hashlib
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from buckets import BUCKET, BreakingProxy, bucket, environment

from sacro_ray.config import build_experiment
from sacro_ray.dataset import staging, store
from sacro_ray.dataset.cache import open_split
from sacro_ray.dataset.manifest import read_manifest, verify
from sacro_ray.dataset.shards import read_samples, shard_paths
from sacro_ray.dataset.store import Store
from sacro_ray.errors import UserError
from sacro_ray.locations import below, checked_location, in_store

ADDRESS = f"s3://{BUCKET}/shards"


@pytest.fixture
def there():
    with bucket() as found:
        yield found


@pytest.fixture
def breaking(there, monkeypatch):
    """The bucket by way of a proxy that breaks when it is told to."""
    proxy = BreakingProxy((there.host, there.port))
    monkeypatch.setattr(store, "FIRST_PAUSE_S", 0.01)
    with environment(AWS_ENDPOINT_URL=proxy.endpoint):
        yield proxy
    proxy.close()


@pytest.fixture
def shards(experiment, there, tmp_path, monkeypatch):
    """The prepared experiment's shards in the bucket, and an empty cache."""
    monkeypatch.setenv("SACRO_RAY_CACHE", str(tmp_path / "cache"))
    root = Path(experiment.prepare.shards)
    for path in root.rglob("*"):
        if path.is_file():
            there.put(f"shards/{path.relative_to(root).as_posix()}", path.read_bytes())
    return root


@pytest.mark.parametrize(
    ("given", "is_meant"),
    [
        ("shards", "shards"),
        ("/data/shards", "/data/shards"),
        ("file:///data/shards", "/data/shards"),
        ("s3://bucket/a/b/", "s3://bucket/a/b"),
        ("gs://bucket", "gs://bucket"),
        ("pipe:cat x", "pipe:cat x"),
    ],
)
def test_a_location_is_a_path_or_an_address(given, is_meant):
    assert checked_location(given) == is_meant


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("http://host/shards", "http:// is not among the schemes that are read and written; give a path, s3://BUCKET/FOLDER"),
        ("pipe://cat", "pipe:// is not among the schemes"),
        ("hdfs://host/x", "hdfs:// is not among the schemes"),
        ("file://shards", "no folder of this machine"),
        ("s3://", "no address of a folder in a bucket"),
        ("s3://bucket/a/../b", "no address of a folder in a bucket"),
        ("s3://bucket/a?endpoint_override=x", "Region and endpoint come from AWS_REGION and AWS_ENDPOINT_URL"),
        ("s3://AKIAEXAMPLE:hush@bucket/a", "with a key in it is refused"),
        ("s3://AKIAEXAMPLE:hu/sh@bucket/a", "with a key in it is refused"),
    ],
)
def test_other_schemes_and_addresses_with_a_key_are_refused_and_the_key_is_not_repeated(given, says):
    with pytest.raises(UserError, match=says.replace("?", r"\?")) as refused:
        checked_location(given)
    assert "hush" not in str(refused.value)
    assert "AKIA" not in str(refused.value)


def test_the_experiment_file_takes_an_address_and_never_repeats_a_key(experiment):
    assert build_experiment(experiment.as_dict(), ["prepare.shards=s3://bucket/shards/"]).prepare.shards == "s3://bucket/shards"
    assert build_experiment(experiment.as_dict(), ["prepare.shards=file:///data"]).prepare.shards == "/data"
    with pytest.raises(UserError, match=r"prepare.shards.*with a key in it is refused") as refused:
        build_experiment(experiment.as_dict(), ["prepare.shards=s3://AKIAEXAMPLE:hush@bucket/shards"])
    assert "hush" not in str(refused.value)
    with pytest.raises(UserError, match=r"prepare.shards = 'ftp://x/y': ftp:// is not among the schemes"):
        build_experiment(experiment.as_dict(), ["prepare.shards=ftp://x/y"])


def test_places_below():
    assert below("s3://bucket/a", "b", "c") == "s3://bucket/a/b/c"
    assert below(Path("/a"), "b", "c") == "/a/b/c"
    assert in_store("s3://bucket")
    assert not in_store("/s3:/bucket")


def test_objects_in_and_out(there, tmp_path):
    place = Store(ADDRESS)
    assert place.sizes() == {}
    assert place.read("a/b") is None
    data = os.urandom(12 * 2**20)
    (tmp_path / "file").write_bytes(data)
    place.put(tmp_path / "file", "a/b")
    place.write("c", b"text")
    assert place.sizes() == {"a/b": len(data), "c": 4}
    assert place.sizes("a") == {"a/b": len(data)}
    assert place.read("c") == b"text"
    assert there.objects("shards/")["a/b"] == data
    assert place.digest("a/b") == hashlib.sha256(data).hexdigest()
    place.fetch("a/b", tmp_path / "new" / "copy", place.digest("a/b"))
    assert (tmp_path / "new" / "copy").read_bytes() == data
    place.delete("c")
    place.delete("c")
    place.delete_folder("a")
    place.delete_folder("a")
    assert place.sizes() == {}


@pytest.mark.parametrize("cuts", [1, 4])
def test_a_connection_that_breaks_in_a_download_is_tried_again(breaking, there, tmp_path, cuts, caplog):
    data = os.urandom(6 * 2**20)
    there.put("shards/x", data)
    place = Store(ADDRESS)
    breaking.break_next(cuts, after=2**20)
    place.fetch("x", tmp_path / "x", hashlib.sha256(data).hexdigest())
    assert breaking.broken == cuts
    assert (tmp_path / "x").read_bytes() == data
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    if cuts > 3:
        assert "could not read x of s3://radiographs/shards" in caplog.text, "more than the client's own tries"


@pytest.mark.parametrize("cuts", [1, 4])
def test_a_connection_that_breaks_in_an_upload_is_tried_again(breaking, there, tmp_path, cuts):
    old, new = b"as it was", os.urandom(12 * 2**20)
    there.put("shards/x", old)
    (tmp_path / "x").write_bytes(new)
    place = Store(ADDRESS)
    breaking.break_next(cuts, after=2**20)
    place.put(tmp_path / "x", "x")
    assert breaking.broken == cuts
    assert there.objects("shards/") == {"x": new}


def test_a_connection_that_keeps_breaking_ends_with_one_message_and_leaves_nothing_half_written(
    breaking, there, tmp_path, monkeypatch
):
    monkeypatch.setattr(store, "TRIES", 2)
    there.put("shards/x", os.urandom(6 * 2**20))
    place = Store(ADDRESS)
    breaking.break_next(10**6, after=2**20)
    with pytest.raises(UserError, match=r"could not read x of s3://radiographs/shards: NETWORK_CONNECTION.*it goes on"):
        place.fetch("x", tmp_path / "x")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "new").write_bytes(os.urandom(6 * 2**20))
    before = there.objects("shards/")
    with pytest.raises(UserError, match="could not write x to s3://radiographs/shards"):
        place.put(tmp_path / "new", "x")
    assert there.objects("shards/") == before


def test_an_object_with_another_digest_is_not_kept(there, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "TRIES", 2)
    monkeypatch.setattr(store, "FIRST_PAUSE_S", 0.01)
    there.put("shards/x", b"changed")
    with pytest.raises(UserError, match="its SHA-256 is not the one expected"):
        Store(ADDRESS).fetch("x", tmp_path / "x", hashlib.sha256(b"as it was").hexdigest())
    assert list(tmp_path.iterdir()) == []


def test_an_object_whose_name_leads_out_of_its_folder_is_refused(there):
    there.put("shards/ours/../../x", b"")
    with pytest.raises(UserError, match="leads out of its folder"):
        Store(ADDRESS).sizes()


def test_a_bucket_that_is_not_there_is_the_users_error(there):
    with pytest.raises(UserError, match="there is no bucket nowhere; make it, or correct its name"):
        Store("s3://nowhere/shards")


def test_a_store_that_refuses_is_the_users_error_and_no_key_is_in_the_message():
    """As without credentials, or with wrong ones: S3 answers 403."""

    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(403)
            self.end_headers()

        do_HEAD = do_PUT = do_POST = do_GET  # noqa: N815

        def log_message(self, *arguments: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    code = f"from sacro_ray.dataset.manifest import verify; from sacro_ray import command; command.run(lambda _: verify('{ADDRESS}/ours'))"
    variables = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    for keys in ({}, {"AWS_ACCESS_KEY_ID": "AKIAEXAMPLE", "AWS_SECRET_ACCESS_KEY": "hush"}):
        result = subprocess.run(
            [sys.executable, "-c", code],
            env={**variables, "AWS_ENDPOINT_URL": endpoint, "AWS_EC2_METADATA_DISABLED": "true", "HOME": "/nowhere", **keys},
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 2, result.stderr
        assert "the store refuses. Give credentials that may list, read, write and delete there: AWS_PROFILE" in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1
        assert "hush" not in result.stderr
        assert "AKIA" not in result.stderr
    server.shutdown()


def test_a_cohort_in_a_bucket_is_read_as_one_on_the_disk(experiment, shards, there):
    assert read_manifest(ADDRESS, "ours") == read_manifest(shards, "ours")
    assert verify(f"{ADDRESS}/ours") == read_manifest(shards, "ours")
    for split in ("train", "validation"):
        ours, theirs = list(read_samples(shards, "ours", split)), list(read_samples(ADDRESS, "ours", split))
        assert [(one.key, one.record, one.pixels.tobytes()) for one in ours] == [
            (other.key, other.record, other.pixels.tobytes()) for other in theirs
        ]
    assert shard_paths(ADDRESS, "ours", "test") == []
    with pytest.raises(UserError, match=f"no prepared cohort nowhere at {ADDRESS}/nowhere; run prepare"):
        read_manifest(ADDRESS, "nowhere")


def test_shards_are_fetched_once_by_all_processes_of_a_node(shards, there, monkeypatch):
    fetched, fetch = [], Store.fetch

    def noted(self: Store, name: str, *arguments: object) -> None:
        fetched.append(name)
        fetch(self, name, *arguments)

    monkeypatch.setattr(Store, "fetch", noted)
    readers = [
        threading.Thread(target=open_split, args=(ADDRESS, ["ours"], "train", 32, "pad", budget)) for budget in (1, 1e-9)
    ]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    open_split(ADDRESS, ["ours"], "validation", 32, "pad", 1.0)
    manifest = read_manifest(shards, "ours")
    assert sorted(fetched) == sorted(shard.file for split in manifest.splits.values() for shard in split.shards)


def test_a_shard_damaged_on_this_disk_is_fetched_again_and_one_damaged_in_the_bucket_is_refused(shards, there, monkeypatch):
    monkeypatch.setattr(store, "FIRST_PAUSE_S", 0.01)
    path = shard_paths(ADDRESS, "ours", "train")[0]
    whole = path.read_bytes()
    path.write_bytes(b"X" + whole[1:])
    open_split(ADDRESS, ["ours"], "train", 32, "pad", 1.0)
    assert path.read_bytes() == whole
    there.put("shards/ours/train/000000.tar", b"X" + whole[1:])
    with pytest.raises(UserError, match=r"train/000000.tar has changed \(SHA-256\)"):
        verify(f"{ADDRESS}/ours")
    path.unlink()
    with pytest.raises(UserError, match=r"could not read train/000000.tar of .*SHA-256"):
        open_split(ADDRESS, ["ours"], "train", 48, "pad", 1.0)
    assert not path.exists()


def test_a_disk_without_room_for_the_shards_is_the_users_error(shards, there, monkeypatch):
    monkeypatch.setattr(staging.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 10})())
    with pytest.raises(UserError, match=r"has 0\.0 GiB free; make room, or set SACRO_RAY_CACHE"):
        shard_paths(ADDRESS, "ours", "train")
