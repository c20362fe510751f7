"""For all tests: the leak check of the host at the end of the session, and a limit of its time."""

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


@pytest.fixture(scope="session", autouse=True)
def netns_directory() -> Iterator[None]:
    """The first ``ip netns add`` after a boot mounts ``/run/netns`` on itself, for good.

    A chapter of the book does that, so it is done before the leak check looks
    for the first time; at the end the host is as it was.
    """
    if os.geteuid() != 0 or _is_mounted(NETNS):
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
@pytest.fixture(scope="session", autouse=True)
def no_leaks(netns_directory: None) -> Iterator[None]:
    """Whatever the tests did, the host is as it was; things may take a moment to go."""
    if os.geteuid() != 0:
        yield
        return
    before = leaks.look()
    yield
    left: list[str] = []
    for _ in range(50):
        left = leaks.compare(before, leaks.look())
        if not left:
            return
        time.sleep(0.1)
    pytest.fail("left on the host:\n  " + "\n  ".join(left))
