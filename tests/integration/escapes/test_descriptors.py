"""What is left open is a door: CVE-2024-21626, CVE-2019-5736."""

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conformance.conftest import Daemon
from tests.integration.escapes.conftest import HOST_PYTHON

LEAK = """
import os
from minidock import rootfs
pivot = rootfs.pivot
def leaky(*arguments):
    for number in range(7, 12):
        os.dup2(os.open('/', os.O_PATH), number)
    pivot(*arguments)
rootfs.pivot = leaky
"""

NO_CHECK = """
from minidock.runtime import process
process._change_directory = lambda cwd, last_try=True: os.chdir(cwd) is None
"""


@pytest.fixture
def marker() -> Iterator[Path]:
    """A file of the host's that no container can know."""
    path = Path("/tmp") / f"escape-{secrets.token_hex(8)}"
    path.write_text("the host's")
    yield path
    path.unlink()


# %% CVE-2024-21626: a working directory that is an open file of the runtime
def through_descriptor(daemon: Daemon, marker: Path, numbers: range) -> list[str]:
    """What containers print whose working directory is a descriptor; the host's root, with luck."""
    said = []
    for number in numbers:
        directory = f"/proc/self/fd/{number}"
        done = daemon.docker(
            "run",
            "--rm",
            "--network",
            "none",
            "-w",
            directory,
            "busybox",
            "cat",
            f"tmp/{marker.name}",
        )
        said.append(done.stdout + done.stderr)
    return said


def test_a_working_directory_that_is_a_descriptor(daemon: Daemon, marker: Path) -> None:
    assert not [
        text for text in through_descriptor(daemon, marker, range(3, 12)) if "the host" in text
    ]


def test_the_check_holds_even_with_a_leak(mutant: Callable[[str], Daemon], marker: Path) -> None:
    said = through_descriptor(mutant(LEAK), marker, range(8, 9))
    assert "outside the container's root" in said[0], said


def test_it_works_without_the_check(mutant: Callable[[str], Daemon], marker: Path) -> None:
    assert through_descriptor(mutant(LEAK + NO_CHECK), marker, range(8, 9)) == ["the host's"]


# %% What the program inherits
LOOK = "for f in /proc/self/fd/*; do readlink $f; done; true"


def test_three_descriptors_and_no_more(daemon: Daemon) -> None:
    seen = daemon.ok("run", "--rm", "busybox", "sh", "-c", LOOK).split()
    assert len([name for name in seen if not name.startswith("/proc/")]) == 3, seen
    container = daemon.ok("run", "-d", "busybox", "sleep", "1000").strip()
    seen = daemon.ok("exec", container, "sh", "-c", LOOK).split()
    assert len([name for name in seen if not name.startswith("/proc/")]) == 3, seen


def test_without_close_on_exec_they_would_leak(mutant: Callable[[str], Daemon]) -> None:
    code = LEAK + (
        "from minidock.runtime import process\n"
        "raw = process.raw\n"
        "process.raw = lambda name, *rest, **more: 0 if name == 'close_range' else raw(name, *rest, **more)\n"
    )
    seen = mutant(code).ok("run", "--rm", "busybox", "sh", "-c", LOOK).split()
    assert "/" in seen, seen


# %% CVE-2019-5736: the runtime's own program
READONLY = "import os; print(os.statvfs('/proc/self/exe').f_flag & os.ST_RDONLY)"
WRITABLE = """
import os
from minidock.linux import mountapi
mountapi.readonly_clone = lambda path: os.open(path, os.O_RDONLY)
"""


def run_yourself(daemon: Daemon) -> str:
    """A container whose program is ``/proc/self/exe``: whoever starts it executes himself again."""
    command = ["/proc/self/exe", "-I", "-c", READONLY]
    return daemon.ok("run", "--rm", *HOST_PYTHON, "busybox", *command).strip()


def test_the_interpreter_cannot_be_written_to(daemon: Daemon) -> None:
    assert run_yourself(daemon) == "1"


def test_without_the_clone_it_could(mutant: Callable[[str], Daemon]) -> None:
    assert run_yourself(mutant(WRITABLE)) == "0"


WATCH = "while :; do for p in /proc/[0-9]*; do readlink $p/exe; done; done"
SLOW = """
import time
from minidock.runtime import process
find_program = process.find_program
def slow(*arguments):
    time.sleep(0.2)
    return find_program(*arguments)
process.find_program = slow
"""
DUMPABLE = """
from minidock.runtime import execute
execute.prctl = lambda *arguments, **more: 0
"""


def seen_while_executing(daemon: Daemon) -> set[str]:
    """The programs that a container sees in its ``/proc`` while others are executed into it."""
    name = f"watch-{secrets.token_hex(4)}"
    options = [
        "--security-opt",
        "seccomp=unconfined",
    ]  # else CAP_SYS_ADMIN, kept for it, hides us, too
    daemon.ok("run", "-d", "--name", name, *options, "busybox", "sh", "-c", WATCH)
    for _ in range(3):
        daemon.ok("exec", name, "true")
    daemon.docker("kill", name)
    return set(daemon.ok("logs", name).split())


OWN = {"/bin/sh", "/bin/true", "/bin/readlink", "/bin/busybox"}


def test_exec_does_not_show_the_interpreter(mutant: Callable[[str], Daemon]) -> None:
    assert seen_while_executing(mutant(SLOW)) <= OWN


def test_a_dumpable_exec_would(mutant: Callable[[str], Daemon]) -> None:
    assert not seen_while_executing(mutant(SLOW + DUMPABLE)) <= OWN
