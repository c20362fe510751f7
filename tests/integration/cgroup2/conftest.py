"""For the tests that need version 2 alone, with all its controllers: a host that has it, or the VM."""

import secrets
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from minidock import cgroups
from minidock.spec.runtime import Resources
from tests.conformance.conftest import Daemon, session_daemon

__all__ = ["session_daemon"]

ROOT = Path("/sys/fs/cgroup")


@pytest.fixture(autouse=True, scope="session")
def version_2() -> None:
    """Skip all of it elsewhere."""
    if cgroups.hierarchy() is not cgroups.Version.V2:
        pytest.skip("needs cgroup v2 alone (this host is hybrid or v1); `nox -s vm` has it")


@pytest.fixture
def daemon(session_daemon: Daemon) -> Iterator[Daemon]:
    """The session's daemon; its containers go after each test."""
    yield session_daemon
    session_daemon.remove_everything()


# %% A group, and processes in it
class Group:
    """A cgroup of ours, and its directory."""

    def __init__(self, resources: Resources | None = None) -> None:
        self.cgroup = cgroups.create(
            f"/minidock/test-{secrets.token_hex(4)}", resources or Resources()
        )
        self.path = ROOT / self.cgroup.path.strip("/")
        self._processes: list[subprocess.Popen[str]] = []

    def read(self, name: str) -> str:
        """One of its files."""
        return (self.path / name).read_text().strip()

    def events(self, name: str = "cgroup.events") -> dict[str, int]:
        """A file of lines ``name number``."""
        return cgroups.keyed(str(self.path / name))

    def spawn(
        self, script: str, below: str = "", user: int | None = None
    ) -> "subprocess.Popen[str]":
        """A shell that enters the group, or the one ``below`` it, before it does anything."""
        process = subprocess.Popen(
            ["sh", "-c", f"read go; {script}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            user=user,
        )
        self._processes.append(process)
        (self.path / below / "cgroup.procs").write_text(str(process.pid))
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
        return process

    def remove(self) -> None:
        """Everybody and everything in it."""
        self.cgroup.kill()
        for process in self._processes:
            process.communicate()
        self.cgroup.delete()


@pytest.fixture
def group() -> Iterator[Callable[..., Group]]:
    """Makes groups, and removes them."""
    made: list[Group] = []

    def make(resources: Resources | None = None) -> Group:
        made.append(Group(resources))
        return made[-1]

    yield make
    for one in made:
        one.remove()
