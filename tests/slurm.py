"""A real Slurm on this machine, whose nodes are hosts with names and addresses of their own."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from tests.network import ip
from tests.project import check, run, variables
from tests.remotes import free_ports

# Of this process, since pytest-xdist runs several.
SUBNET = f"10.{78 + os.getpid() % 100}.{os.getpid() // 100 % 250}"
CONTROLLER = f"{SUBNET}.254"
CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}({controller})
SlurmctldPort={port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdSpoolDir={folder}/%n
SlurmdPidFile={folder}/%n.pid
SlurmdLogFile={folder}/%n.log
SlurmctldTimeout=30
SlurmdTimeout=10
InactiveLimit=0
ReturnToService=2
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


class Slurm:
    """A cluster; `environment` is for those who use it.

    Attributes:
        nodes: their names.
    """

    def __init__(self, folder: Path, count: int) -> None:
        self.folder = folder
        self.nodes = [f"n{i}" for i in range(1, count + 1)]
        self.environment = {"SLURM_CONF": str(folder / "slurm.conf")}
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}

    def namespace(self, node: str) -> str:
        return f"slurm{os.getpid()}-{node}"

    def start(self, node: str) -> None:
        """Start a node, or start it again."""
        enter = f"--net=/run/netns/{self.namespace(node)}"
        script = 'hostname "$2" && mount --bind "$1" /etc/hosts && exec "$0" -D -N "$2"'
        words = ["nsenter", enter, "unshare", "--uts", "--mount", "sh", "-c", script]
        self._spawn(node, [*words, _program("slurmd"), str(self.folder / "hosts"), node])

    def kill(self, node: str) -> None:
        """End all processes of a node at once, as if its power had failed."""
        found = check(["ip", "netns", "pids", self.namespace(node)], self.folder)
        for pid in found.split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        self.daemons.pop(node).wait()

    def running(self) -> dict[str, str]:
        """Return the array tasks that run, by the name of their node."""
        lines = self.check("squeue", "-h", "-t", "running", "-o", "%N %K").splitlines()
        return dict(line.split(" ", 1) for line in lines if line.strip())

    def wait(self, timeout: float) -> None:
        """Wait until no job is left."""
        deadline = time.monotonic() + timeout
        while left := self.check("squeue", "-h", "-o", "%i %T %r"):
            assert time.monotonic() < deadline, f"still there:\n{left}{self.logs()}"
            time.sleep(0.5)

    def check(self, *words: str) -> str:
        return check([*words], self.folder, **self.environment)

    def logs(self) -> str:
        return "\n".join(f"{f}\n{f.read_text()[-3000:]}" for f in self.folder.glob("*.log"))

    def _spawn(self, name: str, words: list[str]) -> None:
        with (self.folder / f"{name}.out").open("ab") as log:
            self.daemons[name] = subprocess.Popen(
                words, env=variables(self.environment), stdout=log, stderr=log
            )

    def _set_up(self, stack: ExitStack) -> None:
        bridge = f"slurm{os.getpid()}"
        ip("link", "add", bridge, "type", "bridge")
        stack.callback(ip, "link", "del", bridge)
        ip("addr", "add", f"{CONTROLLER}/24", "dev", bridge)
        ip("link", "set", bridge, "up")
        hosts = f"127.0.0.1 localhost\n{CONTROLLER} {socket.gethostname()}\n"
        hosts += "".join(f"{SUBNET}.{i} {n}\n" for i, n in enumerate(self.nodes, 1))
        (self.folder / "hosts").write_text(hosts)
        for i, node in enumerate(self.nodes, 1):
            space, end = self.namespace(node), f"v{os.getpid()}{node}"
            ip("netns", "add", space)
            stack.callback(ip, "netns", "del", space)
            ip("link", "add", end, "type", "veth", "peer", "name", "eth0", "netns", space)
            ip("link", "set", end, "master", bridge, "up")
            ip("-n", space, "addr", "add", f"{SUBNET}.{i}/24", "dev", "eth0")
            ip("-n", space, "link", "set", "eth0", "up")
            ip("-n", space, "link", "set", "lo", "up")
        (self.folder / "state").mkdir()
        [port] = free_ports(1)
        text = CONFIGURATION.format(
            host=socket.gethostname(), controller=CONTROLLER, port=port, folder=self.folder
        )
        for i, node in enumerate(self.nodes, 1):
            text += f"NodeName={node} NodeAddr={SUBNET}.{i} CPUs=1 RealMemory=4000\n"
        (self.folder / "slurm.conf").write_text(text)
        munge = self.folder / "munge"
        munge.mkdir()
        (munge / "key").write_bytes(os.urandom(128))
        (munge / "key").chmod(0o600)
        words = [_program("munged"), "--foreground", "--force", f"--socket={munge}/socket"]
        words += [f"--key-file={munge}/key", f"--pid-file={munge}/pid", f"--seed-file={munge}/seed"]
        self._spawn("munged", [*words, f"--log-file={munge}/log"])
        self._spawn("slurmctld", [_program("slurmctld"), "-D", "-c"])


@contextmanager
def cluster(folder: Path, count: int) -> Iterator[Slurm]:
    """Start a cluster of so many nodes of one core, and end it, with all that runs there."""
    slurm = Slurm(folder, count)
    with ExitStack() as stack:
        slurm._set_up(stack)
        try:
            for node in slurm.nodes:
                slurm.start(node)
            deadline = time.monotonic() + 60
            while "idle" * count not in _states(slurm):
                assert time.monotonic() < deadline, slurm.logs()
                time.sleep(0.3)
            yield slurm
        finally:
            for node in slurm.nodes:
                if node in slurm.daemons:
                    slurm.kill(node)
            for daemon in slurm.daemons.values():
                daemon.kill()
                daemon.wait()


def _states(slurm: Slurm) -> str:
    done = run(["sinfo", "-h", "-N", "-o", "%t"], slurm.folder, **slurm.environment)
    return done.stdout.replace("\n", "")


def _program(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    assert found, f"install {name}"
    return found
