"""The two sides of a benchmark: a daemon of ours and one of Docker's, each with directories of its own."""

import contextlib
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path


# %% The two sides
class Side:
    """One engine: how to call its command line, and with what environment."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self.command = command
        self.environment = {**os.environ, **environment}

    def run(self, *arguments: str) -> str:
        """Run a command; raises when it fails."""
        done = subprocess.run(
            [*self.command, *arguments],
            env=self.environment,
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"{self.command[0]} {' '.join(arguments)}: {done.stderr}")
        return done.stdout.strip()


@contextlib.contextmanager
def minidock(directory: Path, command: list[str] | None = None) -> Iterator[Side]:
    """A daemon of ours, with its own directories, bridge and subnet; or ``command``'s."""
    token = secrets.token_hex(3)
    side = Side(
        [sys.executable, "-m", "minidock"],
        {
            "MINIDOCK_ROOT": str(directory / "minidock"),
            "MINIDOCK_RUN": str(directory / "run"),
            "MINIDOCK_BRIDGE": f"mdb{token}",
            "MINIDOCK_SUBNET": f"10.{secrets.randbelow(200) + 20}.{secrets.randbelow(250)}.0/24",
        },
    )
    script = shutil.which("minidock", path=str(Path(sys.executable).parent))
    if command is not None:
        side.command = command
    elif script:
        side.command = [script]
    try:
        side.run("version")  # starts the daemon
        yield side
    finally:
        for container in side.run("ps", "-aq").split():
            side.run("rm", "-f", container)
        pid = int((directory / "run" / "minidock.pid").read_text())
        os.kill(pid, 15)
        _wait(lambda: not Path(f"/proc/{pid}").exists())


@contextlib.contextmanager
def docker(directory: Path) -> Iterator[Side | None]:
    """A dockerd with its own directories and network namespace; None where there is none."""
    dockerd = shutil.which("dockerd")
    if dockerd is None:
        yield None
        return
    netns = f"mdbench{secrets.token_hex(3)}"
    socket = directory / "docker.sock"
    subprocess.run(["ip", "netns", "add", netns], check=True)
    subprocess.run(["ip", "-n", netns, "link", "set", "lo", "up"], check=True)
    with open(directory / "dockerd.log", "w") as log:
        daemon = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{netns}", dockerd, "-H", f"unix://{socket}"]
            + [
                "--data-root",
                str(directory / "docker"),
                "--exec-root",
                str(directory / "exec"),
            ]
            + ["--pidfile", str(directory / "docker.pid")],
            stdout=log,
            stderr=log,
        )
    try:
        side = Side(["docker", "-H", f"unix://{socket}"], {})
        _wait(lambda: socket.exists())
        _wait(lambda: _answers(side))
        yield side
    finally:
        for container in side.run("ps", "-aq").split():
            side.run("rm", "-f", container)
        daemon.terminate()
        daemon.wait(30)
        subprocess.run(["ip", "netns", "delete", netns], check=True)


def _answers(side: Side) -> bool:
    with contextlib.suppress(RuntimeError):
        side.run("version")
        return True
    return False


def _wait(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("waited too long")
        time.sleep(0.02)
