"""One writer for all whole files, and disks that are full, read-only or forbidden."""

import errno
import logging
import os
import subprocess
import sys
import tempfile

import pytest
import torch
from disks import as_nobody, fill, make_read_only, small_disk
from ray.exceptions import RayTaskError

from sacro_ray import command, disk
from sacro_ray.disk import DiskError, _sync, check_writable, for_the_user, remove_leftovers, whole, write_atomically
from sacro_ray.errors import UserError
from sacro_ray.learning.run_folder import RunFolder


def names(folder):
    return {path.name for path in folder.iterdir()}


def test_a_file_is_whole_or_as_before(tmp_path):
    path = write_atomically(tmp_path / "below" / "file", b"before")
    with pytest.raises(ZeroDivisionError), whole(path) as temporary:
        temporary.write_bytes(bytes(1 // 0))
    assert path.read_bytes() == b"before"
    assert names(path.parent) == {"file"}


def test_a_whole_file_is_on_the_disk_before_it_has_its_name_and_the_name_is_after(tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr(disk, "_sync", _sync)  # as it was before the tests' own
    sync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (done.append(os.readlink(f"/proc/self/fd/{handle}")), sync(handle)))
    replace = type(tmp_path).replace
    monkeypatch.setattr(type(tmp_path), "replace", lambda self, to: (done.append("renamed"), replace(self, to))[1])
    write_atomically(tmp_path / "state", b"new")
    assert done[0].startswith(f"{tmp_path}/.state.")
    assert done[1:] == ["renamed", str(tmp_path)]


def test_a_full_disk_keeps_what_was_there_and_says_where(tmp_path):
    with small_disk(tmp_path / "disk") as place:
        path = write_atomically(place / "file", b"before")
        fill(place)
        with pytest.raises(DiskError, match=rf"^{place}: the disk is full. Make room there, or give another folder \(--out"):
            write_atomically(path, bytes(10_000))
        assert path.read_bytes() == b"before"
        assert names(place) == {"file", "filler"}
        with pytest.raises(DiskError, match=rf"^{place / 'new'}: the disk is full.*\(--runs\)"):
            check_writable(place / "new", "--runs")


def test_states_on_a_full_disk_stay_as_they_were(tmp_path):
    """PyTorch's own message is "unexpected pos 576 vs 534"."""
    with small_disk(tmp_path / "disk") as place:
        folder = RunFolder(place)
        folder.save_latest({"history": [1]})
        folder.save_best({"weights": torch.zeros(10)}, {"epoch": 1})
        for save in (
            lambda: folder.save_latest({"history": torch.zeros(10**6)}),
            lambda: folder.save_best({"weights": torch.zeros(10**6)}, {"epoch": 2}),
        ):
            with pytest.raises(DiskError, match="the disk is full"):
                save()
        assert folder.load_latest() == {"history": [1]}
        assert folder.load_best()[1]["epoch"] == 1
        assert names(folder.checkpoints) == {"latest.pt", "best.pt", "best.json"}


def test_a_disk_too_full_for_the_note_keeps_the_weights_that_belong_to_the_old_one(tmp_path):
    with small_disk(tmp_path / "disk") as place:
        folder = RunFolder(place)
        folder.save_best({"weights": torch.zeros(10)}, {"epoch": 1})
        with pytest.raises(DiskError):
            folder.save_best({"weights": torch.ones(10)}, {"epoch": 2, "long": "x" * 2**20})
        weights, description = folder.load_best()
        assert description["epoch"] == 1
        assert not weights["weights"].any()


@pytest.mark.parametrize("fault", ["read-only", "forbidden", "a file"])
def test_a_folder_that_cannot_be_written_is_named_with_what_to_do(tmp_path, fault):
    with small_disk(tmp_path / "disk") as place:
        if fault == "a file":
            (place / "file").write_bytes(b"")
            with pytest.raises(DiskError, match=r"out: a part of this path is a file. Correct the path"):
                check_writable(place / "file" / "out", "--out")
            return
        if fault == "read-only":
            make_read_only(place)
            with pytest.raises(DiskError, match=r"the disk is read-only\. Mount it for writing"):
                check_writable(place / "out", "--out")
            return
        (place / "closed").mkdir(mode=0o755)
        with as_nobody(), pytest.raises(DiskError, match="this user has no permission there"):
            check_writable(place / "closed" / "out", "--out")


def test_a_link_to_a_disk_that_is_not_mounted_is_named(tmp_path):
    (tmp_path / "shards").symlink_to(tmp_path / "mounted" / "shards")
    for write in (check_writable, lambda folder, _: write_atomically(folder / "file", b"")):
        with pytest.raises(
            DiskError, match=f"^{tmp_path}/shards: it is a link to something that is not there. Mount or make what"
        ):
            write(tmp_path / "shards" / "ours", "--out")
    assert names(tmp_path) == {"shards"}


def test_looking_leaves_nothing_behind(tmp_path):
    check_writable(tmp_path / "a" / "b", "--out")
    assert names(tmp_path) == set()


def test_leftovers_of_killed_processes_go(tmp_path):
    for name in (".latest.pt.0123abcd.tmp", "latest.pt", ".hidden"):
        (tmp_path / name).write_bytes(b"")
    remove_leftovers(tmp_path)
    assert names(tmp_path) == {"latest.pt", ".hidden"}


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "a folder that is written to: the disk is full"),
        (OSError(errno.EDQUOT, "quota", "/runs/x/.latest.pt.1234.tmp"), "/runs/x: this user's quota of the disk is used up"),
        (PermissionError(errno.EACCES, "denied", "/runs/x"), "/runs/x: this user has no permission there"),
        (UserError("plain"), "plain"),
    ],
)
def test_what_comes_back_from_a_task_is_told_as_if_it_were_raised_here(error, says):
    wrapped = RayTaskError("f", "Traceback of the worker", error).as_instanceof_cause()
    for found in (error, wrapped, caused(RuntimeError("a training failed"), wrapped), with_failures(wrapped)):
        told = for_the_user(found)
        assert str(told).startswith(says)
        assert "Traceback" not in str(told)


def caused(error, cause):
    error.__cause__ = cause
    return error


def with_failures(error):
    """As Ray Train's WorkerGroupError."""
    failed = RuntimeError("workers failed")
    failed.worker_failures = {0: error}
    return failed


@pytest.mark.parametrize(
    "error", [OSError(errno.EACCES, "bind"), OSError(errno.ECONNREFUSED, "x"), ValueError("a bug"), KeyError(1)]
)
def test_what_is_no_disk_keeps_its_traceback(error):
    assert for_the_user(error) is None
    with pytest.raises(type(error)):
        command.run(lambda argv: (_ for _ in ()).throw(error), [])


def test_a_command_ends_with_status_2_and_one_line(capsys, tmp_path):
    def main(argv):
        (tmp_path / "file").write_bytes(b"")
        (tmp_path / "file" / "below").mkdir(parents=True)

    with pytest.raises(SystemExit) as ended:
        command.run(main, [])
    assert ended.value.code == 2
    assert capsys.readouterr().err.endswith("What is complete is kept, and the same command goes on from it\n")


SHOW = """
from sacro_ray import command
from sacro_ray.dataset.files import cache_root
command.run(lambda argv: str(cache_root()), [])
"""


def caches_of(before=(), program=SHOW, **environment):
    """What a command in another environment says and prints: its folder of caches."""
    kept = {name: value for name, value in os.environ.items() if name not in ("HOME", "SACRO_RAY_CACHE", "XDG_CACHE_HOME")}
    done = subprocess.run(
        [*before, sys.executable, "-c", program], capture_output=True, text=True, check=False, env={**kept, **environment}
    )
    return done.stdout.strip(), done.stderr


def test_without_a_home_there_is_a_remark_that_names_the_setting(tmp_path):
    folder, said = caches_of(HOME="/proc/nope", TMPDIR=str(tmp_path))
    assert folder == f"{tmp_path}/sacro_ray-{os.getuid()}/cache/sacro_ray"
    assert "there is no home folder" in said
    assert "Set SACRO_RAY_CACHE to a folder on a disk with room" in said
    assert (tmp_path / f"sacro_ray-{os.getuid()}").stat().st_mode & 0o777 == 0o700


def test_a_home_that_is_read_only_is_no_traceback(tmp_path):
    with small_disk(tmp_path / "home") as home:
        make_read_only(home)
        folder, said = caches_of(HOME=str(home), TMPDIR=str(tmp_path))
    assert folder == f"{tmp_path}/sacro_ray-{os.getuid()}/cache/sacro_ray"
    assert f"the home folder {home} cannot be written" in said


def test_a_user_id_without_an_entry_is_no_traceback(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    tmp_path.chmod(0o777)
    capability = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]  # to read Python where root has it
    folder, said = caches_of(["setpriv", "--reuid", "12345", "--clear-groups", *capability], TMPDIR=str(tmp_path))
    if "setpriv" in said:
        pytest.skip(said)
    assert folder == f"{tmp_path}/sacro_ray-12345/cache/sacro_ray"
    assert "Traceback" not in said


def test_a_home_that_can_be_written_and_a_folder_that_is_given_are_used_without_a_word(tmp_path):
    assert caches_of(HOME=str(tmp_path)) == (f"{tmp_path}/.cache/sacro_ray", "")
    assert caches_of(HOME="/proc/nope", SACRO_RAY_CACHE=str(tmp_path), TMPDIR=str(tmp_path)) == (str(tmp_path), "")


def test_ray_gets_a_token_where_the_home_cannot_keep_one(tmp_path, monkeypatch):
    from sacro_ray import home

    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(home.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    home.provide_token()
    assert "RAY_AUTH_TOKEN_PATH" not in os.environ
    monkeypatch.setenv("HOME", "/proc")
    home.provide_token()
    token = tmp_path / f"sacro_ray-{os.getuid()}" / home.TOKEN
    assert os.environ["RAY_AUTH_TOKEN_PATH"] == str(token)
    assert token.stat().st_mode & 0o777 == 0o600
    first = token.read_text()
    assert len(first) == 64
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH")
    monkeypatch.setattr(home.Path, "exists", lambda path: path != token and os.path.exists(path))
    home.provide_token()  # somebody else wrote it between the look and the writing
    assert (token.read_text(), sorted(path.name for path in token.parent.iterdir())) == (first, [home.TOKEN])
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH")


START = """
from sacro_ray import command
from sacro_ray.cluster.runtime import ray_session
from sacro_ray.dataset.files import cache_root

def main(argv):
    import ray

    with ray_session("local"):
        return ray.get(ray.remote(lambda: str(cache_root())).remote())

command.run(main, [])
"""


@pytest.mark.slow
@pytest.mark.ray
def test_ray_starts_without_a_home_and_its_workers_use_the_same_folder():
    with tempfile.TemporaryDirectory(dir="/tmp") as place:  # a short path, for Ray's sockets
        folder, said = caches_of(HOME="/proc/nope", TMPDIR=str(place), program=START)
    assert folder == f"{place}/sacro_ray-{os.getuid()}/cache/sacro_ray", said
    assert "Traceback" not in said


def test_a_folder_of_somebody_else_is_refused(tmp_path, monkeypatch):
    from sacro_ray import home

    monkeypatch.setattr(home.tempfile, "gettempdir", lambda: str(tmp_path))
    (tmp_path / f"sacro_ray-{os.getuid()}").mkdir(mode=0o777)
    (tmp_path / f"sacro_ray-{os.getuid()}").chmod(0o777)
    with pytest.raises(UserError, match="is not a folder of this user alone"):
        home.private_folder()


@pytest.fixture(autouse=True)
def _log_as_before():
    handlers = logging.root.handlers[:]
    yield
    logging.root.handlers[:] = handlers
