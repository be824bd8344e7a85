"""A real Slurm of one node, with two GPUs that it takes for real, in one folder and on loopback alone.

    python tests/slurm/single_node.py sinfo
    python tests/slurm/single_node.py snakemake --profile slurm ...

starts it, runs the command with it, and stops it. Configuration, key, state and logs lie in a temporary folder; while
it runs, /etc/slurm/slurm.conf is a link into it. (SLURM_CONF alone is not enough: Snakemake's jobs drop it.) A machine
that has a Slurm of its own is left alone.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

PACKAGES = ("slurm-wlm", "munge")
CONF_LINK = Path("/etc/slurm/slurm.conf")
DAEMONS = ("munged", "slurmctld", "slurmd")
GPUS = 2
CREDENTIAL_SECONDS = 10
"""A requeued job waits so long; Slurm's own two minutes would make the test slow."""
OF_ANOTHER_SLURM = ("SLURM", "SBATCH", "SRUN")

# No cgroups, which containers often lack: memory is shared out, not enforced. `gpu` gives way to `urgent`.
CONF = """
ClusterName=c2c
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={base}/munge/socket,cred_expire={seconds}
SlurmUser=root
SlurmdUser=root
StateSaveLocation={base}/state
SlurmdSpoolDir={base}/spool
SlurmctldPidFile={base}/slurmctld.pid
SlurmdPidFile={base}/slurmd.pid
SlurmctldLogFile={base}/slurmctld.log
SlurmdLogFile={base}/slurmd.log
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
ReturnToService=2
KillWait=2
MinJobAge=600
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,sched_min_interval=0,bf_interval=1,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} Gres=gpu:{gpus} State=UNKNOWN
PartitionName=cpu Nodes={host} Default=YES MaxTime=60 PriorityTier=1 PreemptMode=OFF
PartitionName=gpu Nodes={host} MaxTime=60 PriorityTier=1 PreemptMode=REQUEUE
PartitionName=urgent Nodes={host} MaxTime=60 PriorityTier=10 PreemptMode=OFF
"""


def missing() -> str:
    """Why there can be no Slurm here; empty where there can."""
    if os.geteuid() != 0:
        return "Slurm's daemons are started by root"
    if CONF_LINK.exists():
        return f"{CONF_LINK} belongs to a Slurm that is there already"
    if not all(map(shutil.which, DAEMONS)) and not shutil.which("apt-get"):
        return f"{', '.join(DAEMONS)} are not installed, and there is no apt-get"
    with contextlib.suppress(OSError):
        socket.gethostbyname(socket.gethostname())
        return ""
    return "the name of this machine has no address: add it to /etc/hosts"


def install() -> None:
    """Install Debian's packages where the daemons are not there."""
    if all(map(shutil.which, DAEMONS)):
        return
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "--yes", "--no-install-recommends", *PACKAGES]):
        subprocess.run(["apt-get", "--quiet", *command], env=environment, check=True, stdout=subprocess.DEVNULL)


@dataclass
class SingleNode:
    """A Slurm that runs.

    Args:
        base: Folder of all its files.
        environment: Variables with which a command talks to it.
    """

    base: Path
    environment: dict[str, str] = field(default_factory=dict)
    daemons: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self) -> None:
        """Write its files and start its daemons.

        Raises:
            TimeoutError: One of them does not answer; its log says why.
        """
        conf = self._write()
        kept = {name: value for name, value in os.environ.items() if not name.startswith(OF_ANOTHER_SLURM)}
        self.environment = kept
        CONF_LINK.parent.mkdir(exist_ok=True)
        CONF_LINK.unlink(missing_ok=True)
        CONF_LINK.symlink_to(conf)
        munge, sock = self.base / "munge", self.base / "munge" / "socket"
        paths = [f"--{name}-file={munge}/{name}" for name in ("key", "pid", "log", "seed")]
        self._daemon("munged", "--foreground", "--force", f"--socket={sock}", *paths)
        self._until(sock.exists, "munged")
        self._daemon("slurmctld", "-D", "-c", "-f", str(conf))
        self._until(lambda: "UP" in self.ask("scontrol", "ping"), "slurmctld")
        self._daemon("slurmd", "-D", "-c", "-f", str(conf))
        self._until(lambda: self.ask("sinfo", "--noheader", "--Format=StateLong").startswith("idle"), "slurmd")

    def stop(self) -> None:
        """End the daemons and the jobs that they have, in the opposite order."""
        if len(self.daemons) == len(DAEMONS):
            self.ask("scancel", "--user", "root")
            with contextlib.suppress(TimeoutError):
                self._until(lambda: not self.ask("squeue", "--noheader"), "scancel")
        for daemon in reversed(self.daemons):
            daemon.send_signal(signal.SIGTERM)
            try:
                daemon.wait(timeout=15)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        if CONF_LINK.is_symlink():
            CONF_LINK.unlink()

    def ask(self, *command: str) -> str:
        """What one of Slurm's commands prints."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        return done.stdout

    def jobs(self, state: str = "all") -> dict[str, str]:
        """What Snakemake noted of each of its jobs, rule and wildcards, by the job's number."""
        lines = self.ask("squeue", "--noheader", f"--states={state}", "--Format=JobID:|,Comment:300").splitlines()
        return {number: comment.strip() for number, comment in (line.split("|", 1) for line in lines)}

    def about(self, job: str) -> dict[str, str]:
        """What `scontrol show job` says of a job."""
        words = self.ask("scontrol", "--oneliner", "show", "job", job).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def logs(self) -> str:
        """What the daemons had to say."""
        return "\n".join(f"== {path}\n{path.read_text()}" for path in sorted(self.base.glob("*.log")))

    def _write(self) -> Path:
        self.base.chmod(0o755)
        for name in ("state", "spool", "munge"):
            (self.base / name).mkdir(mode=0o755)
        key = self.base / "munge" / "key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        for number in range(GPUS):
            os.mknod(self.base / f"gpu{number}", 0o666 | 0o020000, os.makedev(1, 3))
        host = socket.gethostname().split(".")[0]
        (self.base / "gres.conf").write_text(f"NodeName={host} Name=gpu File={self.base}/gpu[0-{GPUS - 1}]\n")
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20 * 9 // 10
        about = {"host": host, "base": self.base, "memory": memory, "cpus": os.cpu_count(), "gpus": GPUS}
        conf = self.base / "slurm.conf"
        conf.write_text(CONF.format(ports=_free_ports(), seconds=CREDENTIAL_SECONDS, **about))
        return conf

    def _daemon(self, *command: str) -> None:
        log = self.base / f"{command[0]}.out.log"
        with log.open("wb") as file:
            started = subprocess.Popen(
                command,
                env=self.environment,
                stdout=file,
                stderr=file,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self.daemons.append(started)

    def _until(self, ready: Callable[[], bool], what: str, seconds: float = 30) -> None:
        end = time.monotonic() + seconds
        while not ready():
            if time.monotonic() > end:
                raise TimeoutError(f"{what} did not answer within {seconds} s\n{self.logs()}")
            time.sleep(0.2)


@contextlib.contextmanager
def single_node() -> Iterator[SingleNode]:
    """A Slurm for as long as the block runs; afterwards nothing of it is left."""
    install()
    base = Path(tempfile.mkdtemp(prefix="c2c-slurm-"))
    node = SingleNode(base)
    try:
        node.start()
        yield node
    finally:
        node.stop()
        shutil.rmtree(base, ignore_errors=True)


def _free_ports() -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(2)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


if __name__ == "__main__":
    if reason := missing():
        sys.exit(f"No Slurm here: {reason}.")
    with single_node() as running:
        sys.exit(subprocess.run(sys.argv[1:] or ["sinfo"], env=running.environment, check=False).returncode)
