"""Every step of ``run`` fails once, and kills its process once; then nothing may be left.

The list of steps is not written down here: it is what a real run reports
(``/minidock/trace``), so a step that is added tomorrow is broken tomorrow.
"""

import http.client
import json
import os
import secrets
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.conftest import Daemon

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

BODY: dict[str, Any] = {
    "Image": "busybox",
    "Cmd": ["sh", "-c", "echo started; sleep 0.05"],
    "Tty": False,
    "AttachStdout": True,
    "HostConfig": {
        "PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "0"}]},
        "Memory": 32 << 20,
        "PidsLimit": 50,
        "IpcMode": "shareable",
    },
}


# %% A client that sends the headers
class Connection(http.client.HTTPConnection):
    """HTTP over the daemon's unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=60)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(str(self.path))


def call(
    daemon: Daemon, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
) -> tuple[int, Any]:
    connection = Connection(daemon.socket)
    text = None if body is None else json.dumps(body)
    connection.request(method, path, text, {"Content-Type": "application/json", **(headers or {})})
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    return answer.status, json.loads(data) if data else None


@contextmanager
def trace(daemon: Daemon, token: str) -> Iterator[list[dict[str, Any]]]:
    """The records of all requests that carry ``token``, as they come."""
    records: list[dict[str, Any]] = []
    connection = Connection(daemon.socket)
    connection.request("GET", f"/minidock/trace/{token}")
    answer = connection.getresponse()

    def listen() -> None:
        try:
            for line in answer:
                if line.strip():
                    records.append(json.loads(line))
        except (OSError, ValueError, AttributeError):
            return  # the daemon was killed: that is what some of these tests do

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    try:
        yield records
        time.sleep(0.1)
    finally:
        if connection.sock is not None:
            connection.sock.shutdown(socket.SHUT_RDWR)
        thread.join(5)
        connection.close()


def run(daemon: Daemon, headers: dict[str, str]) -> int | None:
    """create, start, wait, remove; the exit status, or None if something failed."""
    name = f"f{secrets.token_hex(4)}"
    try:
        status, _ = call(daemon, "POST", f"/containers/create?name={name}", BODY, headers)
        if status != 201:
            return None
        status, _ = call(daemon, "POST", f"/containers/{name}/start", None, headers)
        if status != 204:
            return None
        _, result = call(daemon, "POST", f"/containers/{name}/wait")
        return int(result["StatusCode"])
    except (OSError, http.client.HTTPException, ValueError):
        return None


# %% What may be left: nothing
def leftovers(daemon: Daemon) -> dict[str, Any]:
    """What of this daemon's containers is on the host."""
    mounts = Path("/proc/self/mountinfo").read_text()
    links = subprocess.run(
        ["ip", "-o", "link", "show", "master", daemon.bridge],
        capture_output=True,
        text=True,
        check=False,
    )
    found = {
        "mounts": [line for line in mounts.splitlines() if str(daemon.directory) in line],
        "containers": os.listdir(daemon.directory / "root" / "containers"),
        "netns": os.listdir(daemon.directory / "run" / "netns"),
        "veth": links.stdout.splitlines(),
        "addresses": _addresses(daemon),
        "ports": _elements(daemon),
        "monitors": _monitors(daemon),
    }
    return {name: what for name, what in found.items() if what}


def _addresses(daemon: Daemon) -> list[str]:
    files = (daemon.directory / "root" / "networks").glob("*.json")
    return [
        owner
        for path in files
        for owner in (
            json.loads(path.read_text()).get("owners")
            or json.loads(path.read_text()).get("endpoints")
            or {}
        )
    ]


def _elements(daemon: Daemon) -> list[str]:
    command = ["nft", "list", "table", "ip", daemon.bridge]  # the host may have other engines
    rules = subprocess.run(command, capture_output=True, text=True, check=False)
    return [line for line in rules.stdout.splitlines() if "elements" in line and ": 10." in line]


def _monitors(daemon: Daemon) -> list[str]:
    """Processes whose cgroup or open directory is one of this daemon's containers."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            comm = Path(f"/proc/{pid}/comm").read_text().strip()
            files = [os.readlink(entry.path) for entry in os.scandir(f"/proc/{pid}/fd")]
        except OSError:
            continue
        if comm.startswith("md ") and any(str(daemon.directory) in file for file in files):
            found.append(comm)
    return found


def settle(daemon: Daemon) -> dict[str, Any]:
    """Remove what clients may remove, give the daemon a moment, and look."""
    for _ in range(40):
        status, containers = call(daemon, "GET", "/containers/json?all=1")
        assert status == 200
        for container in containers:
            call(daemon, "DELETE", f"/containers/{container['Id']}?force=1")
        left = leftovers(daemon)
        if not left:
            break
        time.sleep(0.05)
    return left


# %% The tests
def steps_of_a_run(daemon: Daemon) -> list[str]:
    """The titles of the steps of a run that succeeds, in order."""
    token = secrets.token_hex(8)
    with trace(daemon, token) as records:
        assert run(daemon, {"X-MiniDock-Trace": token}) == 0
    assert settle(daemon) == {}
    return list(dict.fromkeys(record["title"] for record in records))


@dataclass(frozen=True, slots=True)
class Titles:
    """All steps of a first run; ``once`` are those that a second run need not do again."""

    all: list[str]
    once: set[str]


@pytest.fixture(scope="module")
def titles(session_daemon: Daemon) -> Titles:
    """What there is to break."""
    restart(session_daemon)
    first = steps_of_a_run(session_daemon)
    second = steps_of_a_run(session_daemon)
    assert len(second) > 25, second
    return Titles(first, set(first) - set(second))


def restart(daemon: Daemon) -> None:
    """A daemon that ends in good order takes its bridge down, so that the next makes it anew."""
    daemon.stop()
    daemon.start()


def test_each_step_fails(session_daemon: Daemon, titles: Titles) -> None:
    """A failing step fails the run, and everything before it is taken back."""
    survivors = []
    for title in titles.all:
        if title in titles.once:
            restart(session_daemon)
        if run(session_daemon, {"X-MiniDock-Fault": f"fail={title}"}) is not None:
            survivors.append(title)
        assert settle(session_daemon) == {}, title
    assert survivors == []
    assert run(session_daemon, {}) == 0


def test_each_step_is_the_last(session_daemon: Daemon, titles: Titles) -> None:
    """The process that is at the step is killed: the daemon, the monitor, or the container's init."""
    for title in titles.all:
        if title in titles.once:
            restart(session_daemon)
        run(session_daemon, {"X-MiniDock-Fault": f"kill={title}"})
        revive(session_daemon)
        assert settle(session_daemon) == {}, title
    assert run(session_daemon, {}) == 0


def revive(daemon: Daemon) -> None:
    """Start the daemon again if it was the one that was killed."""
    assert daemon.process is not None
    for _ in range(20):
        if daemon.process.poll() is not None:
            daemon.start()
            return
        time.sleep(0.005)
