"""For all tests: the leak check of the host at the end of the session, and a limit of its time."""

import contextlib
import os
import secrets
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import leaks

# Those in vm/ look at a virtual machine from outside: `nox -s vm` brings it up, and says where.
collect_ignore = [] if "MINIDOCK_VM_SSH" in os.environ else ["vm"]


# %% A limit of time
BEGAN = time.monotonic()
SECONDS = float(os.environ.get("MINIDOCK_TEST_SECONDS", "inf"))


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Stop in good order when the time is up; what has run so far is reported."""
    if time.monotonic() - BEGAN > SECONDS:
        item.session.shouldstop = f"the {SECONDS:.0f} s of $MINIDOCK_TEST_SECONDS are over"


# %% What the host's own tools make at their first use
NETNS = Path("/run/netns")


def _is_mounted(path: Path) -> bool:
    """Not ``os.path.ismount``: it does not see a directory that is mounted on itself."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return any(line.split()[4] == str(path) for line in lines)


@contextlib.contextmanager
def netns_directory() -> Iterator[None]:
    """The first ``ip netns add`` after a boot mounts ``/run/netns`` on itself, for good.

    A chapter of the book does that, so it is done before the leak check looks
    for the first time; at the end the host is as it was.
    """
    if _is_mounted(NETNS):
        yield
        return
    existed = NETNS.exists()
    name = f"mdfirst{secrets.token_hex(3)}"
    for verb in ("add", "del"):
        subprocess.run(["ip", "netns", verb, name], check=True)
    yield
    if not any(NETNS.iterdir()):  # or somebody else has begun to use it
        subprocess.run(["umount", str(NETNS)], check=True)
        if not existed:
            NETNS.rmdir()


# %% The leak check
class LeakCheck:
    """Whatever the tests did, the host is as it was; things may take a moment to go.

    A plugin of the session that has all tests, not of the workers that share
    them (``-n 2``): what one of those has made is no leak to the other.
    """

    def __init__(self) -> None:
        self.left: list[str] = []
        self.stack = contextlib.ExitStack()
        self.before: leaks.Snapshot = {}

    def pytest_sessionstart(self) -> None:
        """Before anything else is made."""
        self.stack.enter_context(netns_directory())
        self.before = leaks.look()

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """After the last fixture has gone."""
        for _ in range(50):
            self.left = leaks.compare(self.before, leaks.look())
            if not self.left:
                break
            time.sleep(0.1)
        else:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        self.stack.close()

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say it where the eye falls."""
        if self.left:
            terminalreporter.section("left on the host", red=True)
            terminalreporter.write_line("\n".join(self.left))


def pytest_configure(config: pytest.Config) -> None:
    """For root, once."""
    if os.geteuid() == 0 and "PYTEST_XDIST_WORKER" not in os.environ:
        config.pluginmanager.register(LeakCheck())
