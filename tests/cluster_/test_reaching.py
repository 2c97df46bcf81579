"""A Ray that is not there is said within seconds, and one of our own keeps to this machine and to short paths."""

import os
import socket
import stat
from contextlib import suppress
from pathlib import Path

import pytest
import ray

from sacro_ray.cluster.local_ray import LOG_LEVEL, LONGEST_FOLDER, initialise, temporary_folder
from sacro_ray.cluster.reaching import refuse_unreachable
from sacro_ray.cluster.runtime import ray_session
from sacro_ray.errors import UserError


@pytest.fixture
def closed_port():
    """A port at which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        yield probe.getsockname()[1]


@pytest.fixture
def no_ray_joined(monkeypatch):
    """The session's own Ray is not looked at, and no other may be started."""
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.init", lambda *_, **__: pytest.fail("Ray was asked, which tries for minutes"))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


@pytest.mark.usefixtures("no_ray_joined")
@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}", "localhost:{}"])
@pytest.mark.parametrize("given", ["address", "environment"])
def test_a_cluster_that_is_gone_is_the_users_error_at_once(closed_port, form, given, monkeypatch):
    target = form.format(closed_port)
    if given == "environment":
        monkeypatch.setenv("RAY_ADDRESS", target)
    address = target if given == "address" else None
    with pytest.raises(UserError, match=rf"no Ray at {target} \(.*Connection refused\); start one there"), ray_session(address):
        pass


@pytest.mark.usefixtures("no_ray_joined")
def test_a_late_call_starts_no_ray(closed_port):
    """As of the thread that watches what waits, when the Ray that it watches has ended."""
    with pytest.raises(UserError), ray_session(f"127.0.0.1:{closed_port}"):
        pass
    with suppress(Exception):
        ray.get_runtime_context()


@pytest.mark.usefixtures("no_ray_joined")
@pytest.mark.parametrize(
    "target", ["nowhere", "127.0.0.1:port", "ray://", "http://", "127.0.0.1:99999999", "name.invalid:6379"]
)
def test_no_address_is_the_users_error(target):
    with pytest.raises(UserError, match=f"no Ray at {target} "), ray_session(target):
        pass


@pytest.mark.usefixtures("no_ray_joined")
def test_auto_finds_a_cluster_that_has_ended(closed_port, tmp_path, monkeypatch):
    """The address of the last `ray start` outlives the machine's crash."""
    monkeypatch.setattr("ray._private.services.find_gcs_addresses", set)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    with pytest.raises(UserError, match="no Ray at auto "), ray_session("auto"):
        pass
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text(f"127.0.0.1:{closed_port}")
    with pytest.raises(UserError, match=r"no Ray at auto \(.*Connection refused"), ray_session("auto"):
        pass


@pytest.mark.usefixtures("no_ray_joined")
@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}"])
def test_a_head_that_says_nothing_is_given_up(form, monkeypatch):
    """It takes connections, as a head that hangs, or another program."""
    monkeypatch.setattr("sacro_ray.cluster.reaching.PATIENCE_S", 0.3)
    with socket.create_server(("", 0)) as silent:
        target = form.format(silent.getsockname()[1])
        with pytest.raises(UserError, match=f"no Ray at {target} .what listens there says nothing"), ray_session(target):
            pass


def test_a_temporary_folder_with_a_long_path_is_not_used(tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO", logger="sacro_ray")
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    folder = tmp_path / ("job" * 20)
    folder.mkdir(parents=True)
    monkeypatch.setenv("TMPDIR", str(folder))
    with temporary_folder() as settings:
        short = Path(settings["_temp_dir"])
        assert len(os.fsencode(short)) <= LONGEST_FOLDER
        assert stat.S_IMODE(short.stat().st_mode) == 0o700
        assert settings["object_spilling_directory"] == str(folder)
        assert f"Ray keeps its sockets in {short} and not in {folder}/ray: its path has" in caplog.text
    assert not short.exists()
    assert list(folder.iterdir()) == []


def test_a_temporary_folder_that_cannot_be_written_is_not_used_and_any_other_is(monkeypatch, caplog):
    caplog.set_level("INFO", logger="sacro_ray")
    monkeypatch.setenv("RAY_TMPDIR", "/proc")
    with temporary_folder() as settings:
        assert set(settings) == {"_temp_dir"}
        assert "and not in /proc/ray" in caplog.text
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")
    with temporary_folder() as settings:
        assert settings == {}
    monkeypatch.setenv("RAY_TMPDIR", "/proc")
    monkeypatch.setattr("sacro_ray.cluster.local_ray.SHORT_FOLDERS", ("/proc",))
    with pytest.raises(UserError, match="set RAY_TMPDIR to a folder with a short path"), temporary_folder():
        pass


@pytest.mark.ray
def test_a_ray_of_our_own_is_on_this_machine_alone(local_ray):
    """The address of a network card may change; and the ranks of a training meet on the loopback as well."""
    assert [node["NodeManagerAddress"] for node in ray.nodes()] == ["127.0.0.1"]
    gcs = ray.get_runtime_context().gcs_address
    assert gcs.startswith("127.0.0.1:")
    assert ray.get(ray.remote(os.getenv).remote("GLOO_SOCKET_IFNAME")) in ("lo", "lo0")
    assert "GLOO_SOCKET_IFNAME" not in os.environ
    refuse_unreachable(gcs)


def test_the_cores_own_line_is_kept_from_the_screen_and_no_other(monkeypatch, capfd):
    monkeypatch.setenv(LOG_LEVEL, "fatal")
    said = b"[I 1 1] logging.cc:303: Set ray log level from environment variable RAY_BACKEND_LOG_LEVEL to 3\nsomething else\n"
    monkeypatch.setattr("ray.init", lambda **_: os.write(2, said))
    initialise(address="local")
    os.write(2, b"afterwards\n")
    assert capfd.readouterr().err == "something else\nafterwards\n"
