"""A daemon of its own for other people's clients: the stock docker CLI, docker-py."""

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from minidock.images import bootstrap
from tests.speed import PATIENCE


def _major() -> int:
    """Of the docker command line; 0 without one."""
    if shutil.which("docker") is None:
        return 0
    done = subprocess.run(["docker", "--version"], capture_output=True, text=True, check=True)
    return int(done.stdout.split()[2].partition(".")[0])  # Docker version 28.2.2, build e6534b4


docker_28 = pytest.mark.skipif(
    _major() < 28, reason="compares words with those of the docker command line 28, or newer"
)

CACHE = Path("/var/cache/minidock-tests")


# %% A private daemon
class Daemon:
    """A MiniDock daemon with directories, bridge and subnet of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.socket = directory / "run" / "minidock.sock"
        self.host = f"unix://{self.socket}"
        self.bridge = f"mdc{secrets.token_hex(3)}"
        self.environment = {
            **os.environ,
            "MINIDOCK_ROOT": str(directory / "root"),
            "MINIDOCK_RUN": str(directory / "run"),
            "MINIDOCK_BRIDGE": self.bridge,
            "MINIDOCK_SUBNET": f"10.{secrets.randbelow(100) + 100}.{secrets.randbelow(250)}.0/24",
            "MINIDOCK_FAULTS": "1",
            "MINIDOCK_REGISTRY": "127.0.0.1:1",  # nobody: a name without a registry goes nowhere
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> None:
        """Run it in the foreground of a process of ours."""
        reads, writes = os.pipe()
        log = open(self.directory / "daemon.log", "ab")  # noqa: SIM115 (the daemon's, not ours)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "minidock", "daemon", *options, "--ready-fd", str(writes)],
            env=self.environment,
            pass_fds=[writes],
            stdout=log,
            stderr=log,
        )
        log.close()
        os.close(writes)
        with open(reads, "rb") as ready:
            line = ready.readline()
        assert line == b"ready\n", line

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it; the containers go on."""
        assert self.process is not None
        self.process.send_signal(how)
        self.process.wait(20)

    def docker(
        self, *arguments: str, stdin: str | None = None, timeout: float = 60
    ) -> "subprocess.CompletedProcess[str]":
        """The stock docker command line, against this daemon."""
        return subprocess.run(
            ["docker", "-H", self.host, *arguments],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=timeout * PATIENCE,
            check=False,
        )

    def minidock(
        self, *arguments: str, stdin: str | None = None, timeout: float = 60
    ) -> "subprocess.CompletedProcess[str]":
        """Our own command line, against this daemon."""
        return subprocess.run(
            [sys.executable, "-m", "minidock", *arguments],
            env=self.environment,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=timeout * PATIENCE,
            check=False,
        )

    def ok(self, *arguments: str, stdin: str | None = None) -> str:
        """``docker …``, which must succeed; its output."""
        done = self.docker(*arguments, stdin=stdin)
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)
        return done.stdout

    def remove_everything(self) -> None:
        """All containers of this daemon."""
        for container in self.ok("ps", "-aq", "--no-trunc").split():
            self.docker("rm", "-f", container)


def archive(image: str) -> Path:
    """The archive of a base image, made once."""
    CACHE.mkdir(parents=True, exist_ok=True)
    path = CACHE / f"{image.replace(':', '-')}.tar"
    if not path.exists():
        bootstrap.make(image, path)
    return path


@pytest.fixture(scope="session")
def session_daemon() -> Iterator[Daemon]:
    """One daemon, with busybox, for the whole session."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    if shutil.which("docker") is None:
        pytest.skip("needs the docker command line")
    with tempfile.TemporaryDirectory(prefix="mdc") as name:
        daemon = Daemon(Path(name))
        daemon.start()
        try:
            daemon.ok("load", "-i", str(archive("busybox")))
            yield daemon
        finally:
            with contextlib.suppress(AssertionError):
                daemon.remove_everything()
            daemon.stop()
            wait_until_quiet(daemon)


def wait_until_quiet(daemon: Daemon) -> None:
    """Monitors go a moment after their containers."""
    for _ in range(100):
        alive = subprocess.run(
            ["pgrep", "-f", str(daemon.directory)], capture_output=True, check=False
        )
        if alive.returncode != 0:
            return
        time.sleep(0.05)


@pytest.fixture
def daemon(session_daemon: Daemon) -> Iterator[Daemon]:
    """The session's daemon; containers are removed after each test."""
    assert session_daemon.process is not None
    if session_daemon.process.poll() is not None:
        session_daemon.start()
    yield session_daemon
    session_daemon.remove_everything()
