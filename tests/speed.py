"""How slow this machine is: for tests that say how long something may take.

**Interface:** :data:`SLOWNESS`, :data:`PATIENCE`, :func:`wait_until`.
"""

import os
import time
from collections.abc import Callable

# In a virtual machine without KVM every instruction is translated: `nox -s vm` says 20 there.
SLOWNESS = float(os.environ.get("MINIDOCK_SLOWNESS", "1"))

# Timeouts, which only end what hangs, are generous already: less is added to them.
PATIENCE = max(1.0, SLOWNESS / 5)


def wait_until(holds: Callable[[], object], seconds: float = 15) -> None:
    """Wait for what comes by itself; the test fails if it has not come in ``seconds`` (of a fast machine)."""
    deadline = time.monotonic() + seconds * PATIENCE
    while not holds():
        assert time.monotonic() < deadline, f"it did not happen within {seconds * PATIENCE:.0f} s"
        time.sleep(0.03)
