"""``NOTIFY_SOCKET``: readiness gets out of a container, and nothing else does."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.runtime.conftest import HERE, Runtime

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

HOST = [("/usr", "/usr"), ("/usr/lib", "/lib"), ("/usr/lib64", "/lib64")]
SAY = """
import os, socket, sys, time
place = os.environ["NOTIFY_SOCKET"]
to = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
to.connect(place)
to.send(b"STATUS=almost\\nMAINPID=1")
to.send(b"EXTEND_TIMEOUT_USEC=1\\nREADY=1\\nFDSTORE=1")
time.sleep(100)
"""


class Manager:
    """The service manager's socket."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.settimeout(30)

    def hears(self) -> bytes:
        """The next message; descriptors that came with it are closed."""
        data, fds, _, _ = socket.recv_fds(self.socket, 4096, 4)
        for fd in fds:
            os.close(fd)
        return data

    def heard(self) -> bool:
        """Whether there is anything to hear."""
        self.socket.setblocking(False)
        try:
            self.socket.recv(1)
        except BlockingIOError:
            return False
        return True


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    one = Manager(tmp_path / "manager.sock")
    yield one
    one.socket.close()


def call(runtime: Runtime, manager: Manager, *words: str) -> "subprocess.Popen[bytes]":
    """Start the command and do not wait for it."""
    command = [sys.executable, "-m", "minidock.cli.runtime", "--root", str(runtime.state), *words]
    variables = {"PYTHONPATH": str(HERE), "NOTIFY_SOCKET": str(manager.path)}
    quiet = subprocess.DEVNULL
    return subprocess.Popen(
        command, cwd=runtime.bundle, env={**os.environ, **variables}, stdin=quiet, stdout=quiet, stderr=quiet
    )  # fmt: skip


def prepare(runtime: Runtime, *program: str) -> None:
    runtime.config["process"]["args"] = list(program)
    runtime.config["process"]["env"] = ["PATH=/bin", "PYTHONHOME=/usr"]
    runtime.config["process"]["user"] = {"uid": 1000, "gid": 1000}
    runtime.config["root"]["readonly"] = False
    for source, to in HOST:
        mount = {"destination": to, "type": "bind", "source": source, "options": ["rbind", "ro"]}
        runtime.config["mounts"].append(mount)
        (runtime.bundle / "rootfs" / to.strip("/")).mkdir(exist_ok=True)
    (runtime.bundle / "rootfs/run").mkdir(exist_ok=True)
    runtime.write()


PYTHON = shutil.which("python3", path="/usr/bin") or "/usr/bin/python3"


def test_start_waits_until_it_is_ready(runtime: Runtime, manager: Manager) -> None:
    prepare(runtime, PYTHON, "-I", "-c", SAY)
    name = runtime.name()
    assert call(runtime, manager, "create", name).wait(30) == 0
    assert not manager.heard()
    manager.socket.settimeout(30)
    start = call(runtime, manager, "start", name)
    assert manager.hears() == b"READY=1\n"
    pid = runtime.ok("ps", "-f", "json", name).strip("[]")
    assert manager.hears() == f"MAINPID={pid}\n".encode()
    assert manager.hears() == b"BARRIER=1"
    assert start.wait(30) == 0
    assert not manager.heard()
    assert runtime.status(name) == "running"


def test_detached_run_waits_too(runtime: Runtime, manager: Manager) -> None:
    prepare(runtime, PYTHON, "-I", "-c", "import time; time.sleep(1)\n" + SAY)
    name = runtime.name()
    begun = time.monotonic()
    run = call(runtime, manager, "run", "-d", "--pid-file", str(runtime.directory / "pid"), name)
    assert manager.hears() == b"READY=1\n"
    assert time.monotonic() - begun >= 1
    pid = (runtime.directory / "pid").read_text()
    assert manager.hears() == f"MAINPID={pid}\n".encode()
    assert manager.hears() == b"BARRIER=1"
    assert run.wait(30) == 0


def test_one_that_ends_without_a_word(runtime: Runtime, manager: Manager) -> None:
    prepare(runtime, "/bin/sh", "-c", "sleep 0.5; exit 3")
    assert call(runtime, manager, "run", runtime.name()).wait(30) == 3
    assert not manager.heard()


def test_nobody_hears(runtime: Runtime, manager: Manager) -> None:
    """The service manager is gone: the container runs all the same."""
    prepare(runtime, PYTHON, "-I", "-c", SAY)
    manager.path.unlink()
    name = runtime.name()
    assert call(runtime, manager, "run", "-d", name).wait(30) == 0
    assert runtime.status(name) == "running"


def test_without_the_variable_there_is_no_mount(runtime: Runtime) -> None:
    out = runtime.run(
        "/bin/sh", "-c", "echo ${NOTIFY_SOCKET-unset}; grep -c /run/notify /proc/mounts || true"
    )
    assert out.split() == ["unset", "0"]
