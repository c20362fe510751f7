"""``minidock run --runtime runc|crun``: our engine, somebody else's runtime."""

import json
import os
import secrets
import shutil
import subprocess

import pytest

from minidock import cgroups
from tests.conformance.conftest import Daemon

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

LOOP = 'trap "exit 4" TERM; while :; do sleep 0.05; done'


def usable(name: str) -> None:
    """Skip where it is missing, or cannot work: crun refuses hosts with both kinds of cgroups."""
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    if name == "crun" and cgroups.hierarchy() is cgroups.Version.HYBRID:
        pytest.skip(
            "crun: cgroups in hybrid mode not supported, drop all controllers from cgroupv2"
        )


@pytest.mark.parametrize("name", ["runc", "crun"])
def test_a_container(daemon: Daemon, name: str) -> None:
    """run, exec with and without a terminal, stop, start again, remove; nothing is left of it."""
    usable(name)
    done = daemon.minidock(
        "run", "--rm", "--runtime", name, "busybox", "sh", "-c", "echo hi; exit 3"
    )
    assert (done.stdout.strip(), done.returncode) == ("hi", 3), done.stderr
    container = f"f{secrets.token_hex(4)}"
    daemon.ok("run", "-d", "--runtime", name, "--name", container, "busybox", "sh", "-c", LOOP)
    assert daemon.ok("exec", container, "id", "-u").strip() == "0"
    assert daemon.minidock("exec", container, "sh", "-c", "exit 9").returncode == 9
    assert daemon.minidock("exec", container, "nonexistent").returncode == 127
    daemon.ok("stop", container)
    record = json.loads(daemon.ok("inspect", container))[0]
    assert record["State"]["ExitCode"] == 4
    assert record["HostConfig"]["Runtime"] == name
    daemon.ok("start", container)
    daemon.ok("rm", "-f", container)
    assert not (daemon.directory / "root/containers" / record["Id"]).exists()
    assert not cgroups.open(f"/minidock/{record['Id']}").exists()


@pytest.mark.parametrize("name", ["runc", "crun"])
def test_a_terminal(daemon: Daemon, name: str) -> None:
    """Its master comes through a socket."""
    usable(name)
    words = ["docker", "-H", daemon.host, "run", "--rm", "-t", "--runtime", name, "busybox", "tty"]
    done = subprocess.run(
        ["script", "-qec", " ".join(words), "/dev/null"],
        capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60, check=False,
    )  # fmt: skip
    assert "/dev/pts/0" in done.stdout


def test_errors_are_docker_s(daemon: Daemon) -> None:
    """A program that is not there is 127, whoever says it; a runtime that nobody knows is refused."""
    usable("runc")
    done = daemon.minidock("run", "--rm", "--runtime", "runc", "busybox", "nonexistent")
    assert done.returncode == 127
    assert "executable file not found in $PATH" in done.stderr
    done = daemon.minidock("run", "--rm", "--runtime", "nonsense", "busybox", "true")
    assert done.returncode == 125
    assert "unknown or invalid runtime name: nonsense" in done.stderr
    info = json.loads(daemon.ok("info", "--format", "{{json .Runtimes}}"))
    assert {"minidock", "runc"} <= info.keys()
