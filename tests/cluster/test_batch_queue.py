"""A real Slurm (slurm-wlm, munge) of two machines that are namespaces: `sbatch deploy/slurm.sh` trains over both to the end."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import tomli_w
from namespaces import Network, missing

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ("slurmctld", "slurmd", "sbatch", "munged", "mungekey")


def reason() -> str:
    lacking = [tool for tool in TOOLS if shutil.which(tool, path=f"{os.environ['PATH']}:/usr/sbin") is None]
    if lacking:
        return f"needs {', '.join(lacking)}: make test-cluster installs them"
    return missing() or ("" if (ROOT / ".venv" / "bin" / "ray").exists() else "needs .venv (make install): the script uses it")


REASON = reason()
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1500), pytest.mark.skipif(bool(REASON), reason=REASON or "all there")]


class Queue:
    """Slurm's daemons on both machines, and its commands on the first; they end with the machines."""

    def __init__(self, base: Path, network: Network) -> None:
        self.base, self.network = base, network
        head, second = network.machines
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
        (base / "slurm.conf").write_text(
            f"ClusterName=test\nSlurmctldHost={head.name}({head.address})\nSlurmUser=root\nSlurmdUser=root\nAuthType=auth/munge\n"
            "AuthInfo=socket=/tmp/munge.socket\nCredType=cred/munge\nProctrackType=proctrack/linuxproc\nTaskPlugin=task/none\n"
            "SelectType=select/cons_tres\nMpiDefault=none\nReturnToService=2\nStateSaveLocation=/tmp/state\nSlurmdSpoolDir=/tmp/spool\n"
            "SlurmctldPidFile=/tmp/ctld.pid\nSlurmdPidFile=/tmp/d.pid\nSlurmctldLogFile=/tmp/ctld.log\nSlurmdLogFile=/tmp/d.log\n"
            + "".join(
                f"NodeName={m.name} NodeAddr={m.address} CPUs={os.cpu_count()} RealMemory={memory // 2}\n"
                for m in network.machines
            )
            + f"PartitionName=all Nodes={head.name},{second.name} Default=YES State=UP\n"
        )
        # Named, because it would be found by looking at /sys/fs/cgroup, which a network namespace's own /sys does not have.
        (base / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
        subprocess.run(["/usr/sbin/mungekey", "-c", "-k", base / "munge.key"], check=True)
        # --force: run by root, with its files in /tmp.
        munged = (
            f"munged --force --socket=/tmp/munge.socket --key-file={base}/munge.key --pid-file=/tmp/munge.pid --seed-file=/tmp/munge.seed "
            "--log-file=/tmp/munge.log"
        )
        for machine in network.machines:
            self.run(f"mkdir -p /tmp/state && {munged}", machine)
        self.run("slurmctld")
        for machine in network.machines:
            self.run(f"slurmd -N {machine.name}", machine)
        deadline = time.monotonic() + 120
        while self.run("sinfo -h -N -o %t").stdout.split() != ["idle", "idle"]:
            assert time.monotonic() < deadline, self.run("sinfo; cat /tmp/*.log").stdout
            time.sleep(1)

    def run(self, command: str, machine=None) -> subprocess.CompletedProcess[str]:
        """Run a command in the repository on a machine, the first unless told."""
        found = f"cd {ROOT} && export SLURM_CONF={self.base}/slurm.conf PATH=$PATH:/usr/sbin && {command}"
        return self.network.ssh(machine or self.network.machines[0], found)

    def submit(self, name: str, *arguments: str, options: str = "") -> tuple[int, str]:
        """Submit as the script's first lines say, without GPUs, and wait; answers the job's exit status and its log."""
        out = self.base / f"{name}.out"
        done = self.run(
            f"sbatch --wait --cpus-per-task=1 --mem-per-cpu=1G --gpus-per-node=0 --output={out} {options} "
            f"deploy/slurm.sh {' '.join(arguments)}"
        )
        return done.returncode, (out.read_text() if out.exists() else "") + done.stderr

    def left(self) -> list[str]:
        """Processes and files of Ray on both machines."""
        look = "pgrep -fa '[t]emp-dir=/tmp/ray-|[r]aylet'; ls -d /tmp/ray-*"
        return [
            f"{machine.name}: {line}"
            for machine in self.network.machines
            for line in self.run(look, machine).stdout.splitlines()
        ]


@pytest.fixture(scope="module")
def queue(tmp_path_factory, experiment) -> Iterator[Queue]:
    base = tmp_path_factory.mktemp("slurm")
    (base / "shared").mkdir()
    shutil.copytree(experiment.prepare.shards, base / "shared" / "shards")
    network = Network(base, base / "shared")
    try:
        network.start(2)
        yield Queue(base, network)
    finally:
        network.remove()


def test_a_batch_job_trains_over_both_nodes_to_the_end_and_leaves_no_ray_behind(queue, experiment):
    values = experiment.as_dict()
    values["name"], values["prepare"]["shards"] = "batch", "/srv/sacro_ray/shards"
    values["training"]["workers"] = 2
    (queue.base / "batch.toml").write_text(tomli_w.dumps(values), encoding="utf-8")
    status, said = queue.submit("job", "-m", "sacro_ray.train", f"{queue.base}/batch.toml", "--runs", "/srv/sacro_ray/runs")
    assert status == 0, said
    assert said.strip().splitlines().count("/srv/sacro_ray/runs/batch") == 1
    assert list(pd.read_csv(queue.base / "shared" / "runs" / "batch" / "history.csv")["epoch"]) == [1, 2, 3, 4, 5]
    # Each node decoded the shards into a cache of its own: a rank ran on each.
    caches = [queue.run("ls ~/.cache/sacro_ray", machine).stdout.split() for machine in queue.network.machines]
    assert all(caches)
    assert queue.left() == []


def test_a_job_that_is_cancelled_leaves_no_ray_behind(queue):
    job = queue.run(
        f"sbatch --parsable --cpus-per-task=1 --mem-per-cpu=1G --gpus-per-node=0 --output={queue.base}/cancelled.out "
        "deploy/slurm.sh -c 'import ray, time; ray.init(); print(len(ray.nodes()), flush=True); time.sleep(600)'"
    ).stdout.strip()
    out, deadline = queue.base / "cancelled.out", time.monotonic() + 300
    while "\n2\n" not in (f"\n{out.read_text()}" if out.exists() else ""):
        assert time.monotonic() < deadline, out.read_text()
        time.sleep(1)
    assert queue.left() != []
    queue.run(f"scancel {job}")
    while queue.run(f"squeue --noheader --jobs={job}").stdout.strip():
        assert time.monotonic() < deadline
        time.sleep(1)
    assert queue.left() == []


def test_a_users_mistake_is_the_jobs_status(queue):
    status, said = queue.submit("mistake", "-m", "sacro_ray.train", "nothing.toml", options="--nodes=1")
    assert status == 2, said
    assert "error: " in said


def test_a_ray_that_does_not_start_ends_the_job_at_once(queue):
    taken = "python3 -m http.server --bind 0.0.0.0"
    queue.run(f"(for port in $(seq 20000 4 20040); do setsid {taken} $port > /dev/null 2>&1 & done) < /dev/null")
    status, said = queue.submit("taken", "-m", "sacro_ray.train", "nothing.toml", options="--nodes=1")
    assert status == 1, said
    assert "error: Ray did not start" in said
    assert queue.left() == []
