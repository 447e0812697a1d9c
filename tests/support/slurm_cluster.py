"""A Slurm cluster on this machine, for tests: Debian's munge, slurmctld and slurmd, with their files in one folder.

Only the configuration is in its usual place, because srun inside a job looks for it nowhere else. No other Slurm may be
configured there, and the file is removed at the end. All processes are stopped by their ids. The cluster needs root:
slurmd starts jobs for other users, and munged accepts its key only from root.
"""

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import time
from pathlib import Path

import psutil

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "sinfo")
CONFIGURATION = Path("/etc/slurm/slurm.conf")
OURS = "ClusterName=galaxynb-test"
PACKAGES = ("munge", "slurmctld", "slurmd", "slurm-client")


def install():
    """Install Debian's packages if possible. Return a sentence that says why not, or None on success."""
    # A killed test may have left our own configuration.
    if CONFIGURATION.exists() and OURS not in CONFIGURATION.read_text(encoding="utf-8"):
        return f"this machine already has a Slurm ({CONFIGURATION})"
    if all(map(shutil.which, PROGRAMS)):
        return None if os.geteuid() == 0 else "only root can start slurmd: run make test-slurm as root"
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return f"Slurm is not installed: run apt-get install {' '.join(PACKAGES)} as root, on Debian or Ubuntu"
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "--yes", "--no-install-recommends", *PACKAGES]):
        command = ["apt-get", "--quiet", *command]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            return f"apt-get {command[2]} failed: {done.stderr.strip().splitlines()[-1:] or done.returncode}"
    return None


def _free_ports(number):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _configuration(folder, cpus, memory):
    control, node = _free_ports(2)
    host = socket.gethostname().split(".")[0]
    return f"""\
{OURS}
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={control}
SlurmdPort={node}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
MpiDefault=none
ReturnToService=2
MinJobAge=300
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


@contextlib.contextmanager
def cluster(folder, seconds=60):
    """Start a cluster with its files in `folder`, and stop it when the block ends."""
    folder = Path(folder)
    for name in ("state", "spool", "munge"):
        (folder / name).mkdir(parents=True)
    (folder / "munge").chmod(0o700)
    key = folder / "munge" / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    memory = psutil.virtual_memory().total >> 20
    CONFIGURATION.parent.mkdir(exist_ok=True)
    CONFIGURATION.write_text(_configuration(folder, os.cpu_count(), int(0.95 * memory)), encoding="utf-8")
    commands = [
        ["munged", "--foreground", "--force", f"--socket={folder}/munge.socket", f"--key-file={key}"],
        ["slurmctld", "-D"],
        ["slurmd", "-D"],
    ]
    commands[0] += [f"--{name}-file={folder}/munge/{name}" for name in ("pid", "log", "seed")]
    started = []
    try:
        for command in commands:
            with (folder / f"{command[0]}.out").open("w") as out:
                started.append(subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True))
            if command[0] == "munged":
                _wait(lambda: (folder / "munge.socket").exists(), "munged's socket", folder, seconds)
        _wait(lambda: "idle" in _output(["sinfo", "-h", "-o", "%T"]), "an idle node", folder, seconds)
        yield
    finally:
        for process in reversed(started):
            process.terminate()
        for process in reversed(started):
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
        CONFIGURATION.unlink()


def _output(command):
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def _wait(ready, what, folder, seconds):
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            logs = {path.name: path.read_text()[-800:] for path in [*folder.glob("*.out"), *folder.glob("*.log")]}
            raise RuntimeError(f"no {what} within {seconds} s: {logs}")
        time.sleep(0.3)
