"""The program behind ``nox -s box`` and ``nox -s vm``.

``box [--fresh]``
    build the box (or find it built) and print its path
``test [--smoke | --minutes N] [--by vagrant|qemu]``
    bring a machine up, run the tests in it, fetch the reports, destroy it; with
    ``--minutes`` the smoke part, and of the rest what can be done in that time
``measure``
    what a machine costs beside a container, as a table for the book

The exit status says whose fault it is: 1 is ours (a test failed, a test ran
nowhere, the machine does not come up); 3 is this computer's (no room on its
disk or in its memory), and then the last line says what is missing.

**Interface:** :func:`main`.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

from tools.vm import box, libvirt, measure, suite
from tools.vm.machine import Settings, machine, settings
from tools.vm.recipe import TREE
from tools.vm.shell import Failed, NotHere, say, since_begin
from tools.vm.ssh import Ssh

OURS, THIS_COMPUTERS = 1, 3


# %% What this computer must have
ROOM_GIB, MEMORY_MIB = 8, 1024


def check(wanted: Settings) -> None:
    """Room and memory for a machine. Raises :class:`NotHere`."""
    box.CACHE.mkdir(parents=True, exist_ok=True)
    for place in (box.CACHE, Path("/var/tmp")):
        free = shutil.disk_usage(place).free >> 30
        if free < ROOM_GIB:
            raise NotHere(f"{free} GiB are free in {place}; a machine needs {ROOM_GIB}")
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            available = int(line.split()[1]) >> 10
            if available < wanted.memory + MEMORY_MIB:
                raise NotHere(
                    f"{available} MB of memory are free; a machine of {wanted.memory} MB"
                    f" needs {wanted.memory + MEMORY_MIB} ($MINIDOCK_VM_MEMORY sets it)"
                )


# %% Which way
@contextmanager
def way(asked: str, kvm: bool) -> Iterator[str]:
    """``vagrant`` where libvirt can run, else ``qemu``, and why; libvirt runs meanwhile."""
    with ExitStack() as stack:
        if asked == "qemu":
            yield "qemu"
            return
        try:
            stack.enter_context(libvirt.running(kvm))
        except libvirt.Unusable as error:
            if asked == "vagrant":
                raise Failed(str(error)) from None
            say(f"no Vagrant here, QEMU alone: {error}")
            yield "qemu"
            return
        yield "vagrant"


# %% The commands
def build(arguments: argparse.Namespace) -> int:
    """``box``."""
    check(settings())
    print(box.cached(arguments.fresh))
    return 0


def test(arguments: argparse.Namespace) -> int:
    """``test``: the machine, the tests in it, and those that look at it from outside."""
    wanted = settings()
    check(wanted)
    path = box.cached()
    bad: list[str] = []
    suite.forget()
    with (
        way(arguments.by, wanted.accelerator == "kvm") as kind,
        machine(kind, path, wanted, attempts=2) as (one, ssh),
    ):
        suite.prepare(one, ssh, whole=not arguments.smoke and not arguments.minutes)
        if not _outside(ssh, path):
            bad.append("tests of the machine, from outside (reports/vm-outside.xml)")
        for part in _parts(arguments):
            if not suite.run_tests(ssh, part, wanted.accelerator):
                bad.append(f"tests in the machine ({part.report.relative_to(TREE)})")
        say(f"the machine has used {one.footprint()}")
    nowhere = suite.compare()
    if nowhere:
        bad.append(f"{len(nowhere)} tests ran nowhere (reports/skipped.md)")
    for words in bad:
        say(f"FAILED: {words}")
    say("all is well" if not bad else f"{len(bad)} failures")
    return OURS if bad else 0


def _parts(arguments: argparse.Namespace) -> Iterator[suite.Part]:
    """Everything; or the smoke part, and the rest for as long as there are ``minutes`` left."""
    if not arguments.smoke and not arguments.minutes:
        yield suite.everything()
        return
    first = suite.smoke()
    yield first
    left = arguments.minutes * 60 - since_begin()
    if left > 60:
        yield suite.rest(first, left)


def _outside(ssh: Ssh, path: Path) -> bool:
    """tests/vm: what a student and an instructor do, and a machine that cannot boot."""
    say("tests of the machine, from outside")
    words = ["-m", "pytest", "tests/vm", f"--junitxml={suite.REPORTS}/vm-outside.xml"]
    environment = {**os.environ, "MINIDOCK_VM_SSH": str(ssh.config), "MINIDOCK_VM_BOX": str(path)}
    process = subprocess.Popen([sys.executable, *words], cwd=TREE, env=environment)
    try:
        return process.wait() == 0
    except BaseException:
        process.send_signal(signal.SIGINT)  # pytest unwinds, and a machine that it has made goes
        process.wait(60)
        raise


def costs(arguments: argparse.Namespace) -> int:
    """``measure``."""
    check(settings())
    print(measure.table(box.cached(), settings()))
    return 0


# %% As a program
def main(words: list[str]) -> int:
    """Run one command; the exit status says whose fault a failure is."""
    parser = argparse.ArgumentParser(prog="tools.vm")
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("box")
    one.add_argument("--fresh", action="store_true")
    one.set_defaults(command=build)
    one = commands.add_parser("test")
    one.add_argument("--smoke", action="store_true")
    one.add_argument("--minutes", type=float, default=0)
    one.add_argument("--by", choices=("auto", "vagrant", "qemu"), default="auto")
    one.set_defaults(command=test)
    one = commands.add_parser("measure")
    one.set_defaults(command=costs)
    arguments = parser.parse_args(words)
    try:
        if os.geteuid() != 0:
            raise Failed(
                "files with owners, networks: this needs root (sudo -E .venv/bin/nox -s …)"
            )
        return int(arguments.command(arguments))
    except NotHere as error:
        say(f"NOT RUN, for want of something on this computer: {error}")
        return THIS_COMPUTERS
    except Failed as error:
        say(f"FAILED: {error}")
        return OURS


def _ended(number: int, frame: FrameType | None) -> None:
    """SIGTERM unwinds the stack, so that the machine goes, too."""
    raise SystemExit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _ended)
    raise SystemExit(main(sys.argv[1:]))
