"""Machines for a cluster on one machine: a network, process and mount namespace each, reached by ssh over a bridge.

Each has its own address, host name, home, /tmp, /dev/shm and sshd, and all share /srv/sacro_ray, as machines share an NFS export.
Without process namespaces of their own, one machine's `ray stop` would stop them all; with them, what runs on a machine ends with it.
"""

import fcntl
import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

BRIDGE = "sacro-br"
NETWORK = "10.77.13"
TOOLS = ("ip", "unshare", "mount", "rsync", "ssh", "ssh-keygen", "/usr/sbin/sshd")
HOME = "/home/sacro"
LOCK = Path("/run/lock/sacro-br")

# Runs as the first process of a machine, inside its namespaces.
BOOT = """
set -e
mount -t tmpfs none /home && mkdir {home} && mount --bind {folder}/home {home}
mount -t tmpfs none /srv && mkdir /srv/sacro_ray /srv/base && mount --bind {shared} /srv/sacro_ray
mount --bind {base} /srv/base && mount -t tmpfs -o mode=1777 none /tmp
mkdir -p {base} && mount --bind /srv/base {base} && umount /srv/base
mount -t tmpfs -o size=16g none /dev/shm
mount --bind {folder}/passwd /etc/passwd
mount --bind {folder}/hosts /etc/hosts
hostname {name}
ip link set lo up
exec /usr/sbin/sshd -D -e -f {folder}/sshd_config
"""


def missing() -> str:
    """Why no machines can be made here; empty where they can."""
    if os.geteuid() != 0:
        return "needs root"
    lacking = [Path(tool).name for tool in TOOLS if shutil.which(tool) is None]
    if lacking:
        return f"needs {', '.join(lacking)}: make test-cluster installs them"
    probe = subprocess.run(["unshare", "--net", "--pid", "--fork", "--mount", "true"], capture_output=True)
    return "" if probe.returncode == 0 else "this machine gives out no namespaces"


@dataclass
class Machine:
    """One machine, switched on by `start`."""

    number: int
    base: Path
    shared: Path
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def name(self) -> str:
        return f"sacro-node{self.number}"

    @property
    def address(self) -> str:
        return f"{NETWORK}.{10 + self.number}"

    @property
    def folder(self) -> Path:
        return self.base / self.name

    def start(self, public_key: str, hosts: str) -> None:
        """Make the machine and switch it on."""
        (self.folder / "home").mkdir(parents=True)
        # Ray's launcher reads it before each command, and stops where it is not there.
        (self.folder / "home" / ".bashrc").touch()
        key = self.folder / "host_key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        (self.folder / "authorized_keys").write_text(public_key)
        (self.folder / "hosts").write_text(hosts)
        lines = Path("/etc/passwd").read_text().splitlines(keepends=True)
        (self.folder / "passwd").write_text(
            "".join(f"root:x:0:0:root:{HOME}:/bin/bash\n" if line.startswith("root:") else line for line in lines)
        )
        (self.folder / "sshd_config").write_text(
            f"HostKey {key}\nAuthorizedKeysFile {self.folder}/authorized_keys\nPidFile none\nStrictModes no\nUsePAM no\n"
            "PermitRootLogin prohibit-password\nMaxStartups 100\nMaxSessions 100\n"
            # All machines' threads share this one's processors, and would wait for each other at full speed.
            "SetEnv OMP_WAIT_POLICY=PASSIVE\n"
        )
        outside = f"sacro{self.number}"
        for command in (
            f"ip netns add {self.name}",
            f"ip link add {outside} type veth peer name eth0 netns {self.name}",
            f"ip link set {outside} master {BRIDGE} up",
            f"ip -n {self.name} addr add {self.address}/24 dev eth0",
            f"ip -n {self.name} link set eth0 up",
            # Ray asks which address leads outside; nothing is ever sent there.
            f"ip -n {self.name} route add default via {NETWORK}.1",
        ):
            subprocess.run(command.split(), check=True)
        self.boot()

    def boot(self) -> None:
        """Switch it on, for the first time or again; its home is as it was."""
        boot = BOOT.format(home=HOME, folder=self.folder, base=self.base, shared=self.shared, name=self.name)
        self.process = subprocess.Popen(
            ["ip", "netns", "exec", self.name, "unshare", "--mount", "--uts", "--ipc", "--pid", "--fork", "--mount-proc",
             "--kill-child=KILL", "bash", "-c", boot],
            stdout=(self.folder / "log").open("ab"), stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip

    def kill(self) -> None:
        """Pull the plug: every process of the machine gets SIGKILL at once."""
        if self.process is not None and self.process.poll() is None:
            # `unshare` is the process itself: `ip netns exec` became it. Its death takes the namespace's first process, which takes all.
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    def remove(self) -> None:
        """Take everything back that `start` made, in this run or in one that was killed before it could."""
        self.kill()
        for left in subprocess.run(["ip", "netns", "pids", self.name], capture_output=True, text=True).stdout.split():
            with suppress(ProcessLookupError):
                os.kill(int(left), signal.SIGKILL)
        subprocess.run(["ip", "netns", "del", self.name], check=False, capture_output=True)
        subprocess.run(["ip", "link", "del", f"sacro{self.number}"], check=False, capture_output=True)


@dataclass
class Network:
    """A bridge with machines on it, and the key that opens them."""

    base: Path
    shared: Path
    machines: list[Machine] = field(default_factory=list)
    lock: IO[str] | None = field(default=None, init=False)

    @property
    def key(self) -> Path:
        return self.base / "key"

    def start(self, count: int) -> None:
        """Switch on `count` machines and wait until each answers by ssh."""
        # One network of this name at a time: another run of these tests waits for its end.
        self.lock = LOCK.open("w")
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        self.machines = [Machine(number, self.base, self.shared) for number in range(1, count + 1)]
        self.take_back()
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.key], check=True)
        subprocess.run(["ip", "link", "add", BRIDGE, "type", "bridge"], check=True)
        subprocess.run(["ip", "addr", "add", f"{NETWORK}.1/24", "dev", BRIDGE], check=True)
        subprocess.run(["ip", "link", "set", BRIDGE, "up"], check=True)
        # sshd wants this folder, which Debian's service makes at boot.
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        hosts = "127.0.0.1 localhost\n" + "".join(f"{m.address} {m.name}\n" for m in self.machines)
        for machine in self.machines:
            machine.start(self.key.with_suffix(".pub").read_text(), hosts)
        for machine in self.machines:
            self.wait_for(machine)

    def wait_for(self, machine: Machine) -> None:
        """Wait until a machine answers by ssh."""
        deadline = time.monotonic() + 120
        while self.ssh(machine, "true").returncode != 0:
            if time.monotonic() > deadline:
                raise TimeoutError((machine.folder / "log").read_text(errors="replace"))
            time.sleep(0.5)

    def ssh(self, machine: Machine, command: str) -> subprocess.CompletedProcess[str]:
        """Run a command on a machine."""
        options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "ConnectTimeout=10"]
        flags = [flag for option in options for flag in ("-o", option)]
        return subprocess.run(
            ["ssh", "-i", str(self.key), *flags, f"root@{machine.address}", command], capture_output=True, text=True
        )

    def remove(self) -> None:
        """Take everything back, and let others in."""
        self.take_back()
        if self.lock is not None:
            self.lock.close()

    def take_back(self) -> None:
        """Machines and bridge."""
        for machine in self.machines:
            machine.remove()
        subprocess.run(["ip", "link", "del", BRIDGE], check=False, capture_output=True)
