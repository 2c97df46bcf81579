"""The command `serve`: what it refuses and how it says so; started, asked, and ended."""

import signal
import socket
import subprocess
import sys

import httpx
import pytest
from serving_fakes import noise, png_bytes

from sacro_ray import serve
from sacro_ray.errors import UserError
from sacro_ray.learning.network import build_network
from sacro_ray.learning.run_folder import RunFolder


@pytest.fixture
def run(experiment, tmp_path) -> RunFolder:
    """A run folder with weights that were never trained, and predictions for the cut-offs."""
    folder = RunFolder(tmp_path / "run")
    folder.claim(experiment)
    folder.save_best(build_network(experiment.model).state_dict(), {"size_px": 48})
    folder.validation_predictions.parent.mkdir()
    folder.validation_predictions.write_text("radiograph_id,probability,label\na,0.2,0\nb,0.4,1\nc,0.3,0\nd,0.6,1\n")
    return folder


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["--port", "http"], "http is no port"),
        (["--port", "70000"], "70000 is no port"),
        (["--largest-upload", "0"], "0 is no size"),
        (["--largest-upload", "much"], "much is no size"),
        (["--largest-upload", "nan"], "nan is no size"),
        ([], "--run"),
    ],
)
def test_wrong_arguments_are_refused(given, says, capsys):
    with pytest.raises(SystemExit) as exit_:
        serve.main([*given, *(["--run", "x"] if given else [])])
    assert exit_.value.code == 2
    assert says in capsys.readouterr().err


def test_no_run_folder(tmp_path):
    with pytest.raises(UserError, match="is not a run folder"):
        serve.main(["--run", str(tmp_path)])


def test_a_taken_port_and_a_host_that_is_not_ours(run):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"nothing can listen at 127.0.0.1 port {port}"):
            serve.main(["--run", str(run.path), "--port", str(port)])
    with pytest.raises(UserError, match=r"nothing can listen at 192\.0\.2\.1"):
        serve.main(["--run", str(run.path), "--host", "192.0.2.1"])
    with pytest.raises(UserError, match=r"nothing can listen at no\.such\.host\.invalid"):
        serve.main(["--run", str(run.path), "--host", "no.such.host.invalid"])
    with pytest.raises(UserError, match="no name of a host"):
        serve.main(["--run", str(run.path), "--host", "x" * 70])


def test_help_has_an_example(capsys):
    with pytest.raises(SystemExit) as exit_:
        serve.main(["--help"])
    assert exit_.value.code == 0
    assert "example: python -m sacro_ray.serve --run" in capsys.readouterr().out


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize(("end", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_the_command_serves_until_it_is_told_to_end(run, end, status):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "sacro_ray.serve", "--run", str(run.path), "--port", str(port)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            assert process.stdout
            url = process.stdout.readline().strip()
            assert url == f"http://127.0.0.1:{port}/"
            answer = httpx.post(url + "score", files={"file": png_bytes(noise())}, timeout=60)
            assert 0 < answer.json()["probability"] < 1
            process.send_signal(end)
            rest, said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == status
    assert rest == ""
    *_, serving, ended = said.splitlines()
    assert serving == "serving until Ctrl-C; research use only"
    assert ended.endswith("; the page is closed, and nothing uploaded was kept")
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)
