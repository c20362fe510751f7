"""For all tests: the leak check of the host at the end of the session."""

import os
import time
from collections.abc import Iterator

import pytest

from tests import leaks

# Those in vm/ look at a virtual machine from outside: `nox -s vm` brings it up, and says where.
collect_ignore = [] if "MINIDOCK_VM_SSH" in os.environ else ["vm"]


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
