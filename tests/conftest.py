"""For all tests: the leak check of the host at the end of the session, and a limit of its time."""

import os
import time
from collections.abc import Iterator

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


# %% The leak check
@pytest.fixture(scope="session", autouse=True)
def no_leaks() -> Iterator[None]:
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
