"""deploy/on-premises.yaml on two machines that are namespaces: `ray up` by ssh, a job over both, a power cut, results, `ray down`."""

import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest
import tomli_w
from namespaces import HOME, Network, missing

from sacro_ray.learning.run_folder import RunFolder

ROOT = Path(__file__).resolve().parents[2]
REASON = missing()
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(bool(REASON), reason=REASON or "all there"),
]
PORT = 18265
URL = f"http://127.0.0.1:{PORT}"


class Laptop:
    """Where the user sits: a home, the token, and the commands of the docs."""

    def __init__(self, base: Path, network: Network) -> None:
        self.home, self.network = base / "laptop", network
        (self.home / "tmp").mkdir(parents=True)
        bin_folder = Path(sys.executable).parent
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "SACRO_"))},
            "HOME": str(self.home),
            "PATH": f"{bin_folder}:{os.environ['PATH']}",
            "RAY_TMPDIR": str(self.home / "tmp"),
            "TMPDIR": str(self.home / "tmp"),
            "RAY_UP_enable_autoscaler_v2": "0",
            "RAY_AUTH_MODE": "token",
        }
        text = (ROOT / "deploy" / "on-premises.yaml").read_text(encoding="utf-8")
        head, worker = network.machines
        for example, here in (
            ("192.0.2.10", head.address),
            ("[192.0.2.11]", f"[{worker.address}]"),
            ("ssh_user: sacro", "ssh_user: root"),
            ("ssh_private_key: ~/.ssh/sacro_ray", f"ssh_private_key: {network.key}"),
        ):
            assert text.count(example) == 1
            text = text.replace(example, here)
        self.file = self.home / "on-premises.yaml"
        self.file.write_text(text, encoding="utf-8")
        self.transcript: list[str] = []

    def run(self, *command: str, check: bool = True) -> str:
        """Run a command of the docs in the repository; answers what it printed."""
        done = subprocess.run(
            command, cwd=ROOT, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=900
        )
        self.transcript.append(f"$ {' '.join(command)}\n{done.stdout}")
        assert not check or done.returncode == 0, done.stdout[-6000:]
        return done.stdout

    def job(self, *command: str) -> str:
        return self.run("ray", "job", "submit", "--address", URL, "--", *command)

    def status(self, token: str | None) -> int:
        """The status that /api/jobs/ answers."""
        request = urllib.request.Request(f"{URL}/api/jobs/")
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code


@pytest.fixture(scope="module")
def laptop(tmp_path_factory, experiment) -> Iterator[Laptop]:
    """A cluster of two machines, up, with the dashboard at `URL`, and the shards of `experiment` in its shared folder."""
    base = tmp_path_factory.mktemp("cluster")
    shared = base / "shared"
    (shared / "runs").mkdir(parents=True)
    shutil.copytree(experiment.prepare.shards, shared / "shards")
    network = Network(base, shared)
    try:
        network.start(2)
        for machine in network.machines:
            # Two copies of the packages would be many gigabytes: the machines use those that the tests run with.
            home = machine.folder / "home"
            (home / "venv").symlink_to(Path(sys.prefix))
            (home / ".sacro_ray_installed").write_bytes(
                (ROOT / "pyproject.toml").read_bytes() + (ROOT / "constraints.txt").read_bytes()
            )
        user = Laptop(base, network)
        user.run("ray", "get-auth-token", "--generate")
        user.run("ray", "up", "--yes", str(user.file))
        forward = subprocess.Popen(
            ["ray", "dashboard", "--port", str(PORT), str(user.file)], cwd=ROOT, env=user.environment,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        try:
            wait_until(lambda: reachable(user), 120, "the dashboard to answer")
            yield user
        finally:
            os.killpg(forward.pid, signal.SIGTERM)
            forward.wait()
    finally:
        if "user" in locals():
            (base / "transcript.txt").write_text("\n".join(user.transcript))
            kept = os.environ.get("SACRO_RAY_TRANSCRIPT")
            if kept:
                shutil.copy(base / "transcript.txt", kept)
        network.remove()


def reachable(user: Laptop) -> bool:
    try:
        return user.status(None) in (200, 401)
    except OSError:
        return False


def wait_until(there, seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
        time.sleep(1)


def write_experiment(user: Laptop, experiment, name: str, **training) -> str:
    """The experiment as a file of the shared folder; answers its path there."""
    values = experiment.as_dict()
    values["name"], values["prepare"]["shards"] = name, "shards"
    values["training"] |= {"workers": 2, **training}
    (user.network.shared / f"{name}.toml").write_text(tomli_w.dumps(values), encoding="utf-8")
    return f"/srv/sacro_ray/{name}.toml"


def nodes_alive(user: Laptop) -> int:
    said = user.job("python", "-c", "import ray; ray.init(); print('alive', sum(n['Alive'] for n in ray.nodes()))")
    return int(said.split("alive ")[1].split()[0])


def test_jobs_need_the_token_and_the_dashboard_is_not_on_the_network(laptop):
    token = (laptop.home / ".ray" / "auth_token").read_text().strip()
    assert laptop.status(None) == 401
    assert laptop.status("0" * len(token)) in (401, 403)
    assert laptop.status(token) == 200
    head = laptop.network.machines[0]
    listening = laptop.network.ssh(head, "ss -ltnH 'sport = :8265'").stdout.split()
    assert "127.0.0.1:8265" in listening
    mode = laptop.network.ssh(head, f"stat -c %a {HOME}/.ray/auth_token").stdout.strip()
    assert mode == "600"


def test_nothing_but_the_package_was_copied(laptop):
    wait_until(lambda: nodes_alive(laptop) == 2, 180, "the second node")
    for machine in laptop.network.machines:
        found = set(laptop.network.ssh(machine, f"ls -A {HOME}/sacro_ray").stdout.split())
        assert found == {"sacro_ray", "experiments", "deploy", "pyproject.toml", "constraints.txt", "README.md", "shards"}


def test_a_job_trains_over_both_nodes_and_its_results_are_fetched(laptop, experiment, tmp_path):
    said = laptop.job("python", "-m", "sacro_ray.train", write_experiment(laptop, experiment, "both"))
    assert "succeeded" in said
    laptop.run("ray", "rsync-down", str(laptop.file), "/srv/sacro_ray/runs/", f"{tmp_path}/")
    history = pd.read_csv(tmp_path / "both" / "history.csv")
    assert list(history["epoch"]) == [1, 2, 3, 4, 5]
    weights, _ = RunFolder(tmp_path / "both").load_best()
    assert weights
    # Each node decoded the shards into a cache of its own: a rank ran on each.
    caches = [laptop.network.ssh(m, f"ls {HOME}/.cache/sacro_ray").stdout.split() for m in laptop.network.machines]
    assert all(caches)


def test_a_user_error_of_a_job_is_one_message(laptop):
    said = laptop.run(
        "ray", "job", "submit", "--address", URL, "--", "python", "-m", "sacro_ray.train", "nothing.toml", check=False
    )
    assert "error: " in said
    assert "status" in said


def test_a_training_outlives_a_power_cut_and_the_machine_comes_back(laptop, experiment):
    stages = [{"size_px": 32, "batch_size": 8, "frozen_epochs": 4, "unfrozen_epochs": 8}]
    path = write_experiment(laptop, experiment, "outage", workers=[1, 2], stages=stages)
    history, lost = laptop.network.shared / "runs" / "outage" / "history.csv", laptop.network.machines[1]
    with ThreadPoolExecutor() as pool:
        job = pool.submit(laptop.job, "python", "-m", "sacro_ray.train", path)
        wait_until(lambda: job.done() or (history.exists() and len(history.read_text().splitlines()) > 3), 600, "three epochs")
        assert not job.done(), job.result()
        lost.kill()
        assert "succeeded" in job.result()
    assert list(pd.read_csv(history)["epoch"]) == list(range(1, 13))
    lost.boot()
    laptop.network.wait_for(lost)
    wait_until(lambda: nodes_alive(laptop) == 2, 300, "the machine to be taken in again")


def test_ray_down_stops_both(laptop):
    laptop.run("ray", "down", "--yes", str(laptop.file))
    # `ray down` stops the head; a worker notices within a minute that it has none.
    for machine in laptop.network.machines:
        wait_until(
            lambda machine=machine: laptop.network.ssh(machine, "pgrep -c raylet").stdout.strip() == "0", 150, "Ray to end"
        )
