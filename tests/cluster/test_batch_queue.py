"""A real Slurm of one node (slurm-wlm, munge): `sbatch deploy/slurm.sh` trains to the end, and a wrong file fails the job."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import tomli_w

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ("slurmctld", "slurmd", "sbatch", "munged", "mungekey")


def missing() -> str:
    if os.geteuid() != 0:
        return "needs root"
    lacking = [tool for tool in TOOLS if shutil.which(tool, path=f"{os.environ['PATH']}:/usr/sbin") is None]
    if lacking:
        return f"needs {', '.join(lacking)}: make test-cluster installs them"
    return "" if (ROOT / ".venv" / "bin" / "ray").exists() else "needs .venv (make install): the script uses it"


REASON = missing()
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900), pytest.mark.skipif(bool(REASON), reason=REASON or "all there")]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory) -> Iterator[dict[str, str]]:
    """A Slurm of this machine alone; answers the environment in which its commands find it."""
    base = tmp_path_factory.mktemp("slurm")
    name, socket_file = socket.gethostname(), base / "munge.socket"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    (base / "slurm.conf").write_text(
        f"ClusterName=test\nSlurmctldHost={name}\nSlurmUser=root\nSlurmdUser=root\nAuthType=auth/munge\nAuthInfo=socket={socket_file}\n"
        "CredType=cred/munge\nProctrackType=proctrack/linuxproc\nTaskPlugin=task/none\nSelectType=select/cons_tres\n"
        "MpiDefault=none\nReturnToService=2\nSlurmctldPort=26817\nSlurmdPort=26818\n"
        f"StateSaveLocation={base}/state\nSlurmdSpoolDir={base}/spool\nSlurmctldPidFile={base}/ctld.pid\nSlurmdPidFile={base}/d.pid\n"
        f"NodeName={name} CPUs={os.cpu_count()} RealMemory={memory // 2}\nPartitionName=all Nodes={name} Default=YES State=UP\n"
    )
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "SLURM_"))},
        "SLURM_CONF": str(base / "slurm.conf"), "PATH": f"{os.environ['PATH']}:/usr/sbin",
    }  # fmt: skip
    (base / "state").mkdir()
    subprocess.run(["mungekey", "-c", "-k", base / "munge.key"], env=environment, check=True)
    # --force: run by root, with its files in the tests' folder.
    munged = [
        "munged", "--force", "--foreground", f"--socket={socket_file}", f"--key-file={base}/munge.key", f"--pid-file={base}/munge.pid",
        f"--seed-file={base}/munge.seed", f"--log-file={base}/munge.log",
    ]  # fmt: skip
    daemons = []
    try:
        for command in (munged, ["slurmctld", "-D"], ["slurmd", "-D", "-N", name]):
            log = (base / f"{command[0]}.out").open("wb")
            daemons.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
            time.sleep(2)
        deadline = time.monotonic() + 60
        while "idle" not in (said := run(environment, "sinfo", "-h", "-o", "%t").stdout):
            assert time.monotonic() < deadline, said + "".join(p.read_text() for p in base.glob("*.out"))
            time.sleep(1)
        yield environment
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait(30)


def run(environment: dict[str, str], *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def submit(slurm: dict[str, str], out: Path, *arguments: str) -> tuple[int, str]:
    """Submit as the script's first lines say, without GPUs, and wait; answers the job's exit status and its log."""
    done = run(
        slurm, "sbatch", "--wait", "--nodes=1", f"--cpus-per-task={os.cpu_count()}", "--gpus-per-node=0", f"--output={out}",
        "deploy/slurm.sh", *arguments,
    )  # fmt: skip
    return done.returncode, (out.read_text() if out.exists() else "") + done.stderr


def test_a_batch_job_trains_to_the_end_and_leaves_no_ray_behind(slurm, experiment, tmp_path):
    values = experiment.as_dict()
    values["name"] = "batch"
    (tmp_path / "batch.toml").write_text(tomli_w.dumps(values), encoding="utf-8")
    status, said = submit(
        slurm, tmp_path / "job.out", "-m", "sacro_ray.train", str(tmp_path / "batch.toml"), "--runs", str(tmp_path / "runs")
    )
    assert status == 0, said
    assert said.strip().splitlines().count(str(tmp_path / "runs" / "batch")) == 1
    assert list(pd.read_csv(tmp_path / "runs" / "batch" / "history.csv")["epoch"]) == [1, 2, 3, 4, 5]
    left = subprocess.run(["pgrep", "-f", "temp-dir=/tmp/ray-[0-9]"], capture_output=True, text=True).stdout
    assert left == ""
    assert not list(Path("/tmp").glob("ray-[0-9]*"))


def test_a_users_mistake_is_the_jobs_status(slurm, tmp_path):
    status, said = submit(slurm, tmp_path / "job.out", "-m", "sacro_ray.train", "nothing.toml")
    assert status == 2, said
    assert "error: " in said
