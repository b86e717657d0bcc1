"""A real Slurm, with a few nodes on this machine: its jobs come to the barcode of an undivided run, whatever dies.

It is started in a temporary folder, for this user alone; Debian has it in the package slurm-wlm.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np
import psutil
import pytest

import topolandscape as tl
from topolandscape.study import Recipe, run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("slurmctld") is None, reason="needs Slurm (apt-get install slurm-wlm)"),
    pytest.mark.usefixtures("one_thread"),
]

SCRIPTS = Path(tl.__file__).parents[1] / "docs/examples/slurm"
NODES = ("n1", "n2", "n3")
PLANS = {kind: {"form": "dense", "chunk": 16, "rows": 200} for kind in ("values", "gradients", "products")}
NETWORK = {"model": "mlp:2-2-1,tanh", "data": "teacher_student", "weight_decay": 1e-3}

# A Slurm that needs no rights: who asks is not checked, and processes are followed by their parents.
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
CredType=cred/none
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SlurmdTimeout=10
KillWait=2
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
PartitionName=all Nodes=ALL Default=YES State=UP
"""

# The program in few, small tasks; the first that is kept is waited with until the test says so.
PROGRAM = f"""#!{sys.executable}
import os, pathlib, time
from topolandscape.cli import main
from topolandscape.landscape import tasks
from topolandscape.study import runs

runs._plans = lambda landscape, route: {PLANS}
runs.Run.values.__globals__["_shard_size"] = lambda landscape: 10
tasks._STEP = 0
add = runs.Run._add

def stopping(run, name, data):
    add(run, name, data)
    if name.startswith(("losses", "parts")) and os.environ.get("SLURM_ARRAY_TASK_ID", "1") == "1":
        pathlib.Path("reached").touch()
        while not pathlib.Path("go").exists():
            time.sleep(0.1)

runs.Run._add = stopping
main()
"""


def free_ports(count):
    with ExitStack() as stack:
        opened = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in opened]


def eventually(true, seconds=300):
    end = time.monotonic() + seconds
    while not (value := true()):
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.2)
    return value


class Slurm:
    """Its daemons, and the commands that are given to it."""

    def __init__(self, folder):
        self.folder, self.daemons = folder, {}
        user, host = psutil.Process().username(), socket.gethostname().partition(".")[0]
        ports = free_ports(1 + len(NODES))
        text = CONFIGURATION.format(folder=folder, host=host, ports=ports, user=user)
        for node, port in zip(NODES, ports[1:], strict=True):
            text += f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=2\n"
        (folder / "slurm.conf").write_text(text)
        (folder / "state").mkdir()
        path = f"{folder / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        own = {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": path, "OMP_NUM_THREADS": "1"}
        self.environment = {**os.environ, **own}
        (folder / "bin").mkdir()
        (folder / "bin/topolandscape").write_text(PROGRAM)
        (folder / "bin/topolandscape").chmod(0o755)
        self.begin("slurmctld")
        for node in NODES:
            self.begin("slurmd", node)

    def begin(self, daemon, node=None):
        command = [daemon, "-D"] if node is None else [daemon, "-D", "-N", node]
        with (self.folder / f"{node or daemon}.log").open("a") as log:
            self.daemons[node] = subprocess.Popen(
                command, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def said(self, *command, **options):
        options = {"env": self.environment, "capture_output": True, "text": True, "timeout": 60} | options
        return subprocess.run(command, **options).stdout

    def state(self, job):
        """Return state, and how often it was queued again."""
        words = dict(word.split("=", 1) for word in self.said("scontrol", "show", "job", job).split() if "=" in word)
        return words.get("JobState"), words.get("Restarts")

    def soon(self, job):
        """Let a job that was queued again begin in seconds, and not in two minutes: once its nodes have let it go."""
        eventually(lambda: self.state(job)[0] == "PENDING")
        eventually(lambda: not self.processes(SLURM_JOB_ID=self.said("squeue", "-h", "-O", "JobID", "-j", job).strip()))
        self.said("scontrol", "update", f"JobId={job}", "StartTime=now+3", check=True)

    def processes(self, **variables):
        """Return the processes that it started, of jobs, with these values in their environment."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                environment = process.environ()
                wanted = {"SLURM_CONF": self.environment["SLURM_CONF"], **variables}
                if all(environment.get(name) == value for name, value in wanted.items()):
                    found.append(process)
        return found

    def node_dies(self, node):
        """Kill what runs on a node, and what would tell of it."""
        self.daemons[node].kill()
        of_node = self.processes(SLURMD_NODENAME=node)
        steps = [parent for process in of_node if "slurmstepd" in (parent := process.parent()).name()]
        for process in (*steps, *of_node):
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def end(self):
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        for daemon in self.daemons.values():
            daemon.wait()


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    made = Slurm(tmp_path_factory.mktemp("slurm"))
    try:
        eventually(lambda: made.said("sinfo", "-hN", "-o%T").split() == ["idle"] * len(NODES), 60)
        yield made
    finally:
        made.end()


def assert_same_barcode(folder, recipe, tmp_path):
    whole = run(recipe, tmp_path / "whole", plans=PLANS, progress=False).load("barcode", tl.Barcode)
    code = tl.Run.open(folder).load("barcode", tl.Barcode)
    for column in tl.Barcode.columns:
        assert np.array_equal(getattr(code, column), getattr(whole, column)), column


def test_a_part_that_is_killed_and_queued_again_goes_on(slurm, tmp_path):
    asked = {**NETWORK, "route": "sample", "region": "box", "points": 64}
    words = [NETWORK["model"], NETWORK["data"], "--weight-decay", "1e-3", "--region", "box", "--points", "64"]
    environment = {**slurm.environment, "PARTS": "2", "CORES": "1", "TIME": "00:05:00"}
    last = slurm.said(
        "bash", SCRIPTS / "barcode.sh", *words, "--out", "parts", cwd=tmp_path, env=environment, check=True
    ).strip()
    array = str(int(last) - 1)
    eventually((tmp_path / "reached").exists)
    kept = list((tmp_path / "parts/shards/1-of-2/losses").rglob("*.npy"))
    assert len(kept) == 1
    written = kept[0].stat().st_mtime_ns
    slurm.said("scontrol", "hold", last, check=True)  # which would compute what the part lacks
    slurm.said("scancel", "--signal=KILL", f"{array}_1", check=True)
    eventually(lambda: slurm.state(f"{array}_1")[0] in ("CANCELLED", "FAILED"))
    slurm.said("scontrol", "requeue", f"{array}_1", check=True)
    (tmp_path / "go").touch()
    slurm.soon(f"{array}_1")
    slurm.said("scontrol", "release", last, check=True)
    eventually(lambda: slurm.state(last)[0] == "COMPLETED")
    assert [slurm.state(f"{array}_{number}") for number in (0, 1)] == [("COMPLETED", "0"), ("COMPLETED", "1")]
    assert kept[0].stat().st_mtime_ns == written
    own = [name for name in tl.Run.open(tmp_path / "parts")._manifest["files"] if name.startswith("losses")]
    assert not own  # all of them came from the parts
    assert_same_barcode(tmp_path / "parts", Recipe(**asked), tmp_path)


def test_a_dask_cluster_whose_worker_dies_and_then_a_node(slurm, tmp_path):
    asked = {**NETWORK, "minima": 4, "steps": 10, "max_evaluations": 50, "evaluations": 200}
    words = [NETWORK["model"], NETWORK["data"], "--weight-decay", "1e-3", "--minima", "4", "--steps", "10"]
    words += ["--max-evaluations", "50", "--evaluations", "200"]
    layout = ("--parsable", "--ntasks=2", "--ntasks-per-node=1")
    job = slurm.said("sbatch", *layout, SCRIPTS / "dask.sh", *words, "--out", "run", cwd=tmp_path, check=True).strip()
    log = tmp_path / f"dask-{job}.log"
    eventually((tmp_path / "reached").exists)
    eventually(lambda: log.read_text().count("Register worker") == 2)
    of_second = slurm.processes(SLURM_JOB_ID=job, SLURMD_NODENAME=NODES[1])
    (worker,) = (one for one in of_second if any("spawn_main" in word for word in one.cmdline()))
    worker.kill()
    eventually(lambda: log.read_text().count("Register worker") == 3)
    slurm.node_dies(NODES[1])
    eventually(lambda: slurm.state(job) == ("PENDING", "1"))
    (tmp_path / "go").touch()
    slurm.soon(job)
    eventually(lambda: slurm.state(job)[0] not in ("PENDING", "RUNNING", "COMPLETING"))
    assert slurm.state(job) == ("COMPLETED", "1")
    eventually(lambda: not slurm.processes(SLURM_JOB_ID=job))
    assert_same_barcode(tmp_path / "run", Recipe(**asked), tmp_path)
